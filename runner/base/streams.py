"""Handles standard streams that are closed or can't be written."""

import errno
import os
import sys
from contextlib import suppress
from typing import IO

from runner.errors import OutputError


def fill_standard_descriptors() -> None:
    """Open the closed ones of the descriptors 0, 1 and 2 on the null device.

    Otherwise the next opened file gets the number, and child processes and libraries print to it, for example to a
    database. Python's own streams stay None, because nobody reads them.
    """
    for descriptor in (0, 1, 2):
        if not _is_open(descriptor):
            # `open` returns the lowest free number, and those below are in use.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def open_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed."""
    fill_standard_descriptors()
    # Python sets these to None for streams that were closed when it started.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or _open_null()
    sys.stderr = sys.stderr or _open_null()


def flush_output(*, has_failed: bool = False) -> None:
    """Flush stdout; ``has_failed`` means that some write failed before, maybe to stdout.

    Raises:
        OutputError: stdout can't be written.
    """
    error = _fault_of(sys.stdout, probe=has_failed)
    if error is None:
        return
    _silence(sys.stdout)
    if error.errno != errno.EPIPE:  # a reader such as `head` may close the pipe early
        raise OutputError(
            f"The output can't be written: {error.strerror or error}",
            hint="Redirect it to a disk with free space, or free some space.",
        )


def silence_stderr() -> None:
    """Redirect stderr to /dev/null, after a write to it has failed."""
    _silence(sys.stderr)


def _fault_of(stream: IO[str], *, probe: bool) -> OSError | None:
    try:
        stream.flush()
        if probe:
            os.write(stream.fileno(), b"")  # fails on a full device
    except OSError as error:
        return error
    except ValueError:  # the stream is closed
        return None
    return None


def _silence(stream: IO[str]) -> None:
    """Redirect a stream to /dev/null; otherwise Python flushes it again at exit and prints an error."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def _open_null() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
