"""Runs a part of this program in a session of its own, so that it survives the terminal and a logout."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

LONGEST_NAME = 32
"""Characters of the name that detached work gives itself."""
Release = Callable[[str, Path], None]
"""Ends the wait of the caller: takes the name of the work, and the file that gets its output from now on."""


class DetachedStart(Struct, frozen=True):
    """How the start of detached work ended: the name that it gave itself, or its exit code if it ended before."""

    name: str | None
    exit_code: int = 0


def start_detached(work: Callable[[Release], int]) -> DetachedStart:
    """Call ``work`` in a new process in a session of its own, and return as soon as it calls its argument.

    Until then it writes to the streams of the caller, and an interruption stops it. It reads from /dev/null.
    """
    readable, writable = os.pipe()
    _flush()
    # No thread is running yet, so a fork is safe. It keeps the options, the working directory and the environment.
    child = os.fork()
    if child == 0:
        os.close(readable)
        os.setsid()
        _redirect(Path(os.devnull), 0)
        _end_with(lambda: work(_Releasing(writable)))
    os.close(writable)
    try:
        name = _read_all(readable)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        _read_all(readable)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(readable)
    if name:
        return DetachedStart(name)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return DetachedStart(None, code if code >= 0 else 128 - code)


class _Releasing:
    """Tells the waiting process the name of the work and releases the terminal; only the first name is told."""

    def __init__(self, writable: int) -> None:
        self._writable = writable

    def __call__(self, name: str, file: Path) -> None:
        _redirect(file, 1, 2)
        if self._writable >= 0:
            os.write(self._writable, name.encode()[:LONGEST_NAME])
            os.close(self._writable)
            self._writable = -1


def _end_with(work: Callable[[], int]) -> NoReturn:
    """Call ``work`` and end this process with the exit code that it returns; a bug of proj shows its traceback."""
    code = 1
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001  the caller's stack belongs to the other process
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _flush()
        os._exit(code)


def _redirect(file: Path, *descriptors: int) -> None:
    """Replace standard descriptors by a file; if it can't be created, as on a full disk, by /dev/null."""
    _flush()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _read_all(descriptor: int) -> str:
    """Return what is written to a pipe until its other end is closed."""
    data = b""
    while piece := os.read(descriptor, LONGEST_NAME):
        data += piece
    return data.decode()
