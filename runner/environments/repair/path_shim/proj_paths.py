"""Leads reading of paths that are of another machine to the project's own files, in the Python of a run's command.

It is imported at the start of that Python, which may be as old as 3.6: nothing of proj and nothing new is used.
"""

import builtins
import functools
import io
import json
import os
from typing import Any, Callable, List, Tuple

LEADS: List[Tuple[str, str]] = json.loads(os.environ.get("PROJ_PATHS") or "[]")
"""Absolute paths as the code has them, and what is read in their stead."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
is_there = os.path.lexists

Function = Callable[..., Any]


def led(path: Any) -> Any:
    """Return the path that is read in the stead of one, the path itself where there is none."""
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
    """A function in the place of a built-in one: like that, and unlike a function of Python, it is never a method.

    ``pathlib`` before 3.10 has ``os.stat`` as an attribute of a class.
    """

    def __init__(self, original: Function, call: Function) -> None:
        functools.update_wrapper(self, original)
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what stands in the place of the built-in function."""
        return self.call(*args, **kwargs)


def wrap_open(original: Function) -> Function:
    """Return an ``open`` that leads what is only read."""

    def opened(file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        is_read = isinstance(mode, str) and not set(mode) & set("wax+")
        return original(led(file) if is_read else file, mode, *args, **kwargs)

    return Wrapped(original, opened)


def wrap_system_open(original: Function) -> Function:
    """Return an ``os.open`` that leads what is only read."""

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        return original(path if flags & WRITING else led(path), flags, *args, **kwargs)

    return Wrapped(original, opened)


def wrap(original: Function) -> Function:
    """Return a function that looks at a path, led."""

    def looked(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return original(led(path), *args, **kwargs)

    return Wrapped(original, looked)


def replace(name: str, function: Function) -> None:
    """Put a function in the place of one of ``os``, also where ``os`` says what that one can do."""
    original = getattr(os, name)
    for known in ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks"):
        if original in getattr(os, known):
            getattr(os, known).add(function)
    setattr(os, name, function)


def start() -> None:
    """Lead what reads from here on."""
    builtins.open = io.open = wrap_open(io.open)
    replace("open", wrap_system_open(os.open))
    for name in ("stat", "listdir", "scandir", "access"):
        replace(name, wrap(getattr(os, name)))
    # What reads with a library of C, such as pandas before 1.2, has its paths expanded first.
    os.path.expanduser = wrap(os.path.expanduser)


if LEADS:
    start()
