"""The output of a command on its way to the log and to the screen: bytes, as they come, in bounded memory."""

import codecs
import os
import sys
from pathlib import Path
from typing import IO

from runner.base.masking import StreamMasker
from runner.process.request import Echo, ProcessRequest

CHUNK = 65536
_PIECE = 4096
"""What a pipe that is ready takes without blocking: PIPE_BUF of pipe(7)."""
_STANDARD = (1, 2)


class Log:
    """The file that keeps the output. A fault, a full disk say, is noted and does not stop the command."""

    def __init__(self, path: Path | None) -> None:
        self.fault: str | None = None
        self._descriptor = -1
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.fault = f"{path}: {error.strerror}"

    def write(self, data: bytes) -> None:
        """Append to the file at once, so that it can be followed."""
        if self._descriptor < 0:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.fault = f"the log is incomplete: {error.strerror}"
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Screen:
    """Where output is shown: a descriptor of ours, or what took the place of a standard stream.

    A reader that is slow holds the command up, as it would without us, but never us: what it has not taken yet waits
    in ``backlog``. A reader that is gone ends the showing and nothing else.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self.backlog = bytearray()
        self.descriptor = -1
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            if stream is not None:
                stream.flush()
                self.descriptor = stream.fileno() if stream.fileno() in _STANDARD else -1
        except (OSError, ValueError):
            self.descriptor = -1

    def put(self, data: bytes) -> None:
        """Show data, or keep it until the reader takes it."""
        if self.descriptor >= 0:
            self.backlog += data
        elif self._stream is not None and data:
            self._replace(data)

    def pour(self) -> None:
        """Hand over what a ready reader takes."""
        try:
            del self.backlog[: os.write(self.descriptor, self.backlog[:_PIECE])]
        except BlockingIOError:
            return
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Show nothing any more."""
        self.backlog.clear()
        self.descriptor = -1
        self._stream = None

    def _replace(self, data: bytes) -> None:
        """Write to an object that stands for a standard stream, in a notebook or a test."""
        stream = self._stream
        buffer = getattr(stream, "buffer", None)
        try:
            if buffer is not None:
                buffer.write(data)
                buffer.flush()
            elif stream is not None:
                stream.write(self._decoder.decode(data))
                stream.flush()
        except (OSError, ValueError):
            self.drop()


class Channel:
    """One output stream of the command."""

    def __init__(self, descriptor: int, screen: Screen, log: Log, masks: tuple[bytes, ...]) -> None:
        self.descriptor = descriptor
        self.screen = screen
        self.is_open = True
        self._log = log
        self._masker = StreamMasker(masks)
        os.set_blocking(descriptor, False)

    @property
    def is_wanted(self) -> bool:
        """Say whether there may be more, and the reader has kept up with what there was."""
        return self.is_open and len(self.screen.backlog) < CHUNK

    def pump(self) -> bool:
        """Move what has arrived; False where nothing had."""
        try:
            data = os.read(self.descriptor, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.finish()
            return False
        self._pass_on(self._masker.feed(data))
        return True

    def finish(self) -> None:
        """Show what was held back; there will be no more."""
        if self.is_open:
            self.is_open = False
            self._pass_on(self._masker.end())

    def _pass_on(self, data: bytes) -> None:
        self._log.write(data)
        self.screen.put(data)


def is_one_place(echo: Echo) -> bool:
    """Say whether output and errors go to the same place, so that one pipe keeps their exact order."""
    if echo != Echo.SPLIT:
        return True
    try:
        output, errors = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (AttributeError, OSError, ValueError):
        return False
    return (output.st_dev, output.st_ino, output.st_rdev) == (errors.st_dev, errors.st_ino, errors.st_rdev)


def open_channels(request: ProcessRequest, output: int, errors: int, log: Log) -> tuple[Channel, Channel]:
    """Return the channels of a command's output and of its errors."""
    shown = {Echo.SPLIT: (sys.stdout, sys.stderr), Echo.STDERR: (sys.stderr, sys.stderr), Echo.NONE: (None, None)}
    first, second = (Screen(stream) for stream in shown[request.echo])
    return Channel(output, first, log, request.masks), Channel(errors, second, log, request.masks)
