"""Copies the output of a command to its log and to the screen: as bytes, at once, in bounded memory."""

import codecs
import errno
import os
import sys
from pathlib import Path
from typing import IO

from runner.base.dead_links import LinkFilter
from runner.base.masking import StreamMasker
from runner.process.link import SupervisorHandle
from runner.process.plain_text import PlainLines
from runner.process.request import Echo, ProcessRequest

CHUNK = 65536
_PIPE_BUF = 4096
"""Bytes that a ready pipe takes without blocking: PIPE_BUF of pipe(7)."""
_STANDARD = (1, 2)


class Log:
    """The file that keeps the output. A fault, such as a full disk, is noted and does not stop the command."""

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
        """Append to the file at once, so that readers can follow it."""
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
    """The stream on which output is shown: a standard descriptor, or an object that replaces a standard stream.

    A slow reader delays the command, as it would without proj, but never proj itself: what it has not read yet waits
    in ``backlog``. When the reader is gone, output is no longer shown; the command and the log go on.
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

    def write(self, data: bytes) -> None:
        """Show data, or keep it until the reader is ready."""
        if self.descriptor >= 0:
            self.backlog += data
        elif self._stream is not None and data:
            self._write_stream(data)

    def flush(self) -> None:
        """Write as much of the backlog as a ready reader takes."""
        try:
            del self.backlog[: os.write(self.descriptor, self.backlog[:_PIPE_BUF])]
        except BlockingIOError:
            return
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Stop showing output and discard the backlog."""
        self.backlog.clear()
        self.descriptor = -1
        self._stream = None

    def _write_stream(self, data: bytes) -> None:
        """Write to an object that replaces a standard stream, as in a notebook or a test."""
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

    def __init__(
        self, descriptor: int, screen: Screen, log: Log, request: ProcessRequest, *, is_terminal: bool = False
    ) -> None:
        self.descriptor = descriptor
        self.screen = screen
        self.is_open = True
        self._log = log
        self._masker = StreamMasker(request.masks)
        self._links = LinkFilter(request.dead_addresses)
        self._plain = PlainLines() if is_terminal else None
        os.set_blocking(descriptor, False)

    @property
    def is_readable(self) -> bool:
        """Whether the stream is open and the screen has room for more."""
        return self.is_open and len(self.screen.backlog) < CHUNK

    def read(self) -> bool:
        """Read and forward what has arrived; return False if nothing has."""
        try:
            data = os.read(self.descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # Linux reports the end of a pseudo-terminal in this way
                raise
            data = b""
        if not data:
            self.end()
            return False
        self._forward(self._masker.feed(data))
        return True

    def end(self) -> None:
        """Close the stream and forward what the masker held back."""
        if self.is_open:
            self.is_open = False
            self._forward(self._masker.end())
            self._log.write(self._plain.end() if self._plain else b"")
            self.screen.write(self._links.end())

    def _forward(self, data: bytes) -> None:
        self._log.write(self._plain.feed(data) if self._plain else data)
        self.screen.write(self._links.feed(data))


def merges_streams(echo: Echo) -> bool:
    """Return whether stdout and stderr go to the same file, so that one pipe keeps their exact order."""
    if echo not in (Echo.SPLIT, Echo.TERMINAL):
        return True
    try:
        output, errors = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (AttributeError, OSError, ValueError):
        return False
    return (output.st_dev, output.st_ino, output.st_rdev) == (errors.st_dev, errors.st_ino, errors.st_rdev)


def open_channels(request: ProcessRequest, supervisor: SupervisorHandle, log: Log) -> tuple[Channel, Channel]:
    """Return the channels of a command's stdout and stderr."""
    own = (sys.stdout, sys.stderr)
    shown = {Echo.SPLIT: own, Echo.TERMINAL: own, Echo.STDERR: (sys.stderr, sys.stderr), Echo.NONE: (None, None)}
    first, second = (Screen(stream) for stream in shown[request.echo])
    output = Channel(supervisor.output, first, log, request, is_terminal=supervisor.has_terminal)
    return output, Channel(supervisor.errors, second, log, request)
