"""Runs short helper commands to their end and returns what they printed."""

import os
import selectors
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


OUTPUT_LIMIT = 256 << 20
"""Bytes of output after which a command is stopped, by default: a listing of some million files."""
_PIECE = 1 << 16


class Bounds(Struct, frozen=True, kw_only=True):
    """What ends a command early: more ``output`` than these bytes, or a reason why it can never end.

    While a command takes long, ``stalled`` is called at growing intervals. It returns the reason, or None.
    """

    output: int = OUTPUT_LIMIT
    stalled: Callable[[], str | None] | None = None
    watch: Callable[[bytes], None] | None = None
    """Receives each piece of the error output as soon as it is printed."""


_ORDINARY = Bounds()


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
    def lines(self) -> list[str]:
        """The lines of the output; names in them may have characters at which `str.splitlines` splits."""
        return self.text.split("\n") if self.text else []

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
    bounds: Bounds = _ORDINARY,
) -> Completed:
    """Run a short command to its end and return its exit code and what it printed.

    Raises:
        ExecutionError: the program can't be started, took longer than ``timeout`` seconds, or exceeded the bounds.
    """
    arguments = tuple(str(argument) for argument in argv)
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(arguments, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603
    except FileNotFoundError as error:
        message = f"'{arguments[0]}' can't be started: there is no such program"
        raise ExecutionError(message, context=str(error)) from error
    try:
        stdout, stderr = _Exchange(process, stdin, bounds).finish(_Patience(arguments[0], timeout, bounds))
    except BaseException:
        _stop(process)
        raise
    _close(process)
    return Completed(argv=arguments, exit_code=process.returncode, stdout=stdout, stderr=stderr)


class _Patience:
    """Decides how long to wait for a command."""

    def __init__(self, name: str, timeout: float | None, bounds: Bounds) -> None:
        self._name, self._timeout, self._stalled = name, timeout, bounds.stalled
        now = time.monotonic()
        self._end = None if timeout is None else now + timeout
        self._step = _FIRST_CHECK
        self._check = now + self._step if bounds.stalled else None

    def seconds(self) -> float | None:
        """Return the seconds until the next check; None if there is none.

        Raises:
            ExecutionError: the time is over, or the command can never end.
        """
        now = time.monotonic()
        if self._stalled and self._check is not None and now >= self._check:
            reason = self._stalled()
            if reason:
                raise ExecutionError(f"'{self._name}' was stopped: {reason}")
            self._step *= 2
            self._check = now + self._step
        if self._end is not None and now >= self._end:
            raise ExecutionError(f"'{self._name}' took longer than {self._timeout:g} s and was stopped")
        return min((one - now for one in (self._check, self._end) if one is not None), default=None)


class _Exchange:
    """Sends a command its input, and collects its output up to a limit."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: bytes, bounds: Bounds) -> None:
        self._process = process
        self._input = memoryview(stdin)
        self._limit, self._watch = bounds.output, bounds.watch
        self._size = 0
        self._outputs: tuple[list[bytes], list[bytes]] = ([], [])

    def finish(self, patience: _Patience) -> tuple[bytes, bytes]:
        """Wait for the end of the command, and return its output and its error output.

        Raises:
            ExecutionError: it takes too long or prints too much.
        """
        process = self._process
        with selectors.DefaultSelector() as selector:
            for stream, pieces in zip((process.stdout, process.stderr), self._outputs, strict=True):
                if stream:
                    selector.register(stream, selectors.EVENT_READ, pieces)
            if process.stdin and self._input:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            elif process.stdin:
                process.stdin.close()
            while selector.get_map():
                for key, _ in selector.select(patience.seconds()):
                    if not (self._send(key.fd) if key.data is None else self._receive(key.fd, key.data)):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience.seconds())
                return b"".join(self._outputs[0]), b"".join(self._outputs[1])

    def _send(self, descriptor: int) -> bool:
        """Send a piece of the input; return whether there is more to send."""
        try:
            self._input = self._input[os.write(descriptor, self._input[:_PIECE]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:  # the command does not read it
            return False
        return bool(self._input)

    def _receive(self, descriptor: int, pieces: list[bytes]) -> bool:
        """Take a piece of output; return whether there may be more."""
        piece = os.read(descriptor, _PIECE)
        pieces.append(piece)
        if self._watch is not None and pieces is self._outputs[1]:
            self._watch(piece)
        self._size += len(piece)
        if self._size > self._limit:
            arguments = self._process.args
            name = arguments[0] if isinstance(arguments, tuple) else arguments
            raise ExecutionError(f"'{name!s}' was stopped: it printed more than {self._limit:,} bytes")
        return bool(piece)


def _close(process: "subprocess.Popen[bytes]") -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            if stream:
                stream.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command without waiting for output of programs that it leaves behind."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _close(process)
