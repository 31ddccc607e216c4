"""Redirects reads of absolute paths of another machine to files of the project, in the Python of a run's command.

It is imported when that Python starts, which may be as old as 3.6: it imports nothing of proj and uses no new syntax.
"""

import builtins
import functools
import io
import json
import os
from typing import Any, Callable, List, Tuple

LEADS: List[Tuple[str, str]] = json.loads(os.environ.get("PROJ_PATHS") or "[]")
"""Pairs of an absolute path in the code and the path that is read instead."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
is_there = os.path.lexists

Function = Callable[..., Any]


def led(path: Any) -> Any:
    """Return the path to read instead of a path, or the path itself if it is not redirected."""
    if isinstance(path, (int, bytes)):
        return path
    try:
        text = os.fspath(path)
    except TypeError:
        return path
    if not isinstance(text, str):
        return path
    for there, here in LEADS if not is_there(text) else ():
        rest = text[len(there) :]
        if text.startswith(there) and (not rest or rest[0] in "/\\" or there[-1] in "/\\"):
            return here + rest.replace("\\", "/") if there[-1] not in "/\\" else here + "/" + rest.replace("\\", "/")
    return path


class Wrapped:
    """A replacement for a built-in function; like a built-in, it never becomes a bound method.

    ``pathlib`` before 3.10 has ``os.stat`` as an attribute of a class.
    """

    def __init__(self, original: Function, call: Function) -> None:
        functools.update_wrapper(self, original)
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the replacement."""
        return self.call(*args, **kwargs)


def wrap_open(original: Function) -> Function:
    """Return an ``open`` that redirects files opened for reading."""

    def opened(file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        is_read = isinstance(mode, str) and not set(mode) & set("wax+")
        return original(led(file) if is_read else file, mode, *args, **kwargs)

    return Wrapped(original, opened)


def wrap_system_open(original: Function) -> Function:
    """Return an ``os.open`` that redirects files opened for reading."""

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        return original(path if flags & WRITING else led(path), flags, *args, **kwargs)

    return Wrapped(original, opened)


def wrap(original: Function) -> Function:
    """Return a function that redirects its path argument."""

    def looked(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return original(led(path), *args, **kwargs)

    return Wrapped(original, looked)


def replace(name: str, function: Function) -> None:
    """Replace a function of ``os``, also in the ``os.supports_*`` sets."""
    original = getattr(os, name)
    for known in ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks"):
        if original in getattr(os, known):
            getattr(os, known).add(function)
    setattr(os, name, function)


def start() -> None:
    """Replace the functions that read files."""
    builtins.open = io.open = wrap_open(io.open)
    replace("open", wrap_system_open(os.open))
    for name in ("stat", "listdir", "scandir", "access"):
        replace(name, wrap(getattr(os, name)))
    # Readers in C, such as that of pandas before 1.2, bypass `open` but call `expanduser` first.
    os.path.expanduser = wrap(os.path.expanduser)


if LEADS:
    start()
