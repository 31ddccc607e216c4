"""Sending the head and the body of an answer together.

uvicorn writes them apart, and each write wakes the client, which then waits for the rest: joined, twice as many answers
a second go out.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


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

    def close(self) -> None:
        """Send what was held back, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class JoiningProtocol(H11Protocol):
    """uvicorn's HTTP protocol with such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
