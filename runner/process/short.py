"""Runs short helper commands to their end and returns what they printed."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from runner.errors import ExecutionError

_FIRST_CHECK = 2.0
"""Seconds until the first call of ``stalled`` for a command that is still running; each wait is twice the one before.
"""
_GRACE = 2.0
"""Seconds that a command gets to end its own children."""


class Completed(Struct, frozen=True, kw_only=True):
    """A short child process that has ended; ``exit_code`` is negative when a signal ended it."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """The output as text, without newlines at the end."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    @property
    def error_text(self) -> str:
        """The error output as text."""
        return self.stderr.decode("utf-8", "replace").strip()


def capture(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
    stalled: Callable[[], str | None] | None = None,
) -> Completed:
    """Run a short command to its end and return its exit code and what it printed.

    While a command takes long, ``stalled`` is called at growing intervals. It returns the reason why the command can
    never end, or None.

    Raises:
        ExecutionError: the program can't be started, took longer than ``timeout`` seconds, or can never end.
    """
    arguments = tuple(str(argument) for argument in argv)
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(arguments, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603
    except FileNotFoundError as error:
        message = f"'{arguments[0]}' can't be started: there is no such program"
        raise ExecutionError(message, context=str(error)) from error
    try:
        stdout, stderr = _communicate(process, stdin, timeout, stalled)
    except BaseException:
        _stop(process)
        raise
    return Completed(argv=arguments, exit_code=process.returncode, stdout=stdout, stderr=stderr)


def _communicate(
    process: "subprocess.Popen[bytes]", stdin: bytes, timeout: float | None, stalled: Callable[[], str | None] | None
) -> tuple[bytes, bytes]:
    end = time.monotonic() + timeout if timeout is not None else None
    step = _FIRST_CHECK if stalled else None
    given: bytes | None = stdin
    while True:
        left = None if end is None else max(end - time.monotonic(), 0.0)
        waits = [one for one in (step, left) if one is not None]
        try:
            return process.communicate(given, timeout=min(waits) if waits else None)
        except subprocess.TimeoutExpired as error:
            name = str(error.cmd[0])
            reason = stalled() if stalled else None
            if reason:
                raise ExecutionError(f"'{name}' was stopped: {reason}") from error
            if end is not None and time.monotonic() >= end:
                raise ExecutionError(f"'{name}' took longer than {timeout:g} s and was stopped") from error
        given = None  # communicate() itself sends what is left of it
        step = step * 2 if step else None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command without waiting for output of programs that it leaves behind."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            if stream:
                stream.close()
