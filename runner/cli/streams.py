"""The standard streams of a command: closed ones lead to nowhere, and output that can't be written is an error."""

import errno
import os
import sys
from contextlib import suppress
from typing import IO

from runner.errors import OutputError

_STANDARD = 3


def open_streams() -> None:
    """Let standard streams that the caller closed lead to nowhere, as no file of ours may take their numbers."""
    descriptor = 0
    while descriptor < _STANDARD:  # the system gives out the lowest number that is free
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor < _STANDARD:
            os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python leaves out the objects for streams that were closed when it started.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def flush_output(*, has_failed: bool = False) -> None:
    """Write out what was printed; ``has_failed`` says that something could not be written, and it may be this.

    Raises:
        OutputError: nobody can have it.
    """
    error = _fault_of(sys.stdout, probe=has_failed)
    if error is None:
        return
    _silence(sys.stdout)
    if error.errno != errno.EPIPE:  # who stops reading has enough
        raise OutputError(
            f"The output can't be written: {error.strerror or error}",
            hint="Send it to a place that has room, or free some space.",
        )


def silence_talk() -> None:
    """Let what is said on stderr go nowhere from now on, where it can't be written."""
    _silence(sys.stderr)


def _fault_of(stream: IO[str], *, probe: bool) -> OSError | None:
    try:
        stream.flush()
        if probe:
            os.write(stream.fileno(), b"")  # a full device refuses even that
    except OSError as error:
        return error
    except ValueError:  # it is closed
        return None
    return None


def _silence(stream: IO[str]) -> None:
    """Lead a stream to nowhere, or Python tries again at its end and complains."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def _nowhere() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
