"""Sending the head and the body of an answer together.

uvicorn writes them apart, and each write wakes the client, which then waits for the rest: joined, twice as many answers
a second go out.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.server.zero_copy import CONNECTION

_PIECE = 64 * 1024
"""Bytes read at once. asyncio takes 256 KB, for which the allocator asks the kernel anew each time: a large upload then
costs three times as much."""

_LONGEST_HEAD = 256 * 1024

WINDOW = 30.0
"""Seconds between two looks at whether a client that is to send something does so."""

LEAST = 3000
"""Bytes that must come in between: whoever sends a byte a second would hold a connection for days."""


_MANY = 10_000
_SPARE = 64
"""Open files that are left for the store, artifacts and what Python needs."""


def _most_connections() -> int:
    """Return how many connections may be open: whoever opens more than there are files stops a server otherwise."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MANY
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MANY if limit == resource.RLIM_INFINITY else max(_SPARE, min(_MANY, limit - _SPARE))


MOST_CONNECTIONS = _most_connections()


class JoiningTransport:
    """A transport that holds a write back until the next one, or until the event loop has nothing better to do."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  everything else is the transport's own
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send what was held back together with this, or hold this back."""
        if self._held:
            self._held, data = b"", self._held + data
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def flushed(self) -> asyncio.Transport:
        """Send what was held back, and return the transport itself."""
        self._flush()
        return self._transport

    def close(self) -> None:
        """Send what was held back, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class JoiningProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with such a transport, which reads in pieces of a good size; a head has a limit."""

    longest_silence = WINDOW
    """Seconds that a client which is to send something may be silent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        if hasattr(transport, "max_size"):
            transport.max_size = _PIECE
        self._head: int | None = 0
        self._awaits = True
        self._came = 0
        self._timer = self.loop.call_later(WINDOW, self._look, False)
        self.app_state = {**self.app_state, CONNECTION: self}
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def flushed(self) -> asyncio.Transport:
        """Send what is held back, and return the transport to the client itself."""
        return cast("JoiningTransport", self.transport).flushed()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; a head without end would fill the memory, for the parser has no limit of its own."""
        self._awaits = True
        self._came += len(data)
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > _LONGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        """Note the end of a head."""
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that what comes next is a head, when it comes."""
        self._head = 0
        self._awaits = False
        super().on_message_complete()

    def _look(self, did_await: bool) -> None:
        """Give up a client that is to send something, and has hardly done so between two looks."""
        if did_await and self._awaits and self._came < LEAST and not self.flow.read_paused:
            self.transport.abort()
            return
        self._came = 0
        self._timer = self.loop.call_later(WINDOW, self._look, self._awaits)
