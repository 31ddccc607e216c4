"""uvicorn's HTTP protocol with limits, and with the head and the body of an answer sent together.

uvicorn writes them apart, and each write wakes the client, which then waits for the rest: joined, twice as many answers
a second go out.
"""

import asyncio
from typing import Any, cast

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.server.standalone.peers import Connection
from runner.server.zero_copy import CONNECTION

_STRANGER, _IDLE, _BUSY = range(3)

_PIECE = 64 * 1024
"""Bytes read at once. asyncio takes 256 KB, for which the allocator asks the kernel anew each time: a large upload then
costs three times as much."""

MAX_HEAD = 64 * 1024
"""Bytes of the line, the headers and the trailers of one request."""

MAX_FIELDS = 128
"""Headers and trailers of one request; each costs some 150 bytes however short it is."""

MAX_WAITING = 32
"""Requests that may wait for the answer to an earlier one of the same connection."""

_MAX_FRAMING = 256 * 1024
_FRAMING_PER_BYTE = 8
"""Bytes around the chunks of a body: so many in all, and so many for each byte of content."""

WINDOW = 30.0
"""Seconds between two looks at whether a client that is to send something does so."""

LEAST = 3000
"""Bytes that must come in between: whoever sends a byte a second would hold a connection for days."""

_MANY = 2_000

ACCEPTED = 32
"""Connections that are accepted in one turn of the event loop; up to four times as many are in the making."""

_SPARE = 64 + 4 * ACCEPTED
"""Open files that are left for the store, artifacts, what Python needs and connections in the making."""

_LEAST = 16


def _most_connections() -> int:
    """Return how many connections may be open: whoever opens more than there are files stops a server otherwise."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MANY
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MANY if limit == resource.RLIM_INFINITY else max(_LEAST, min(_MANY, limit - _SPARE))


MOST_CONNECTIONS = _most_connections()
MOST_OF_ONE = MOST_CONNECTIONS * 3 // 4
"""Connections from one address; a proxy before the server is one."""


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


class Budget:
    """What one request may cost before and beside its content, counted as it arrives."""

    def __init__(self) -> None:
        self.is_head = True
        self._head = 0
        self._fields = 0
        self._quiet = 0
        self._is_quiet = True
        self._raw = 0
        self._content = 0

    def begin_message(self) -> None:
        """Begin with a request."""
        self.is_head = True
        self._is_quiet = False
        self._head = self._fields = self._raw = self._content = 0

    def add_head(self, size: int, fields: int) -> bool:
        """Count a part of the head or a trailer; False when it is too much."""
        self._is_quiet = False
        self._head += size
        self._fields += fields
        return self._head <= MAX_HEAD and self._fields <= MAX_FIELDS

    def end_head(self) -> None:
        """Note that what headers still come are trailers."""
        self.is_head = self._is_quiet = False

    def add_content(self, size: int) -> None:
        """Count a part of the content."""
        self._is_quiet = False
        self._content += size

    def end_message(self) -> None:
        """End with a request."""
        self._is_quiet = False
        self._raw = self._content = 0

    def begin_piece(self, size: int) -> None:
        """Begin with bytes as they arrived."""
        self._is_quiet = True
        self._raw += size

    def end_piece(self, size: int) -> bool:
        """End with these bytes; False when too many of them are no content.

        A header that has not ended, and what stands around a chunk, is inside the parser, which tells nothing of it.
        """
        self._quiet = self._quiet + size if self._is_quiet else 0
        framing = self._raw - self._content - self._head
        return self._quiet <= MAX_HEAD and framing <= _MAX_FRAMING + _FRAMING_PER_BYTE * self._content


class JoiningProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with such a transport, which reads in pieces of a good size, and with limits.

    The parser has none of its own, and uvicorn keeps what it is told: headers, trailers, requests that wait.
    """

    awaits_spliced = False
    """Whether a body is read from the socket by `zero_copy`, which is waiting for the client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        if hasattr(transport, "max_size"):
            transport.max_size = _PIECE
        self._budget = Budget()
        self._fault = ""
        self._awaits = True
        self._came = 0
        self._unsent = 0
        self._timer = self.loop.call_later(WINDOW, self._look, False)
        self.app_state = {**self.app_state, CONNECTION: self}
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self.connection = Connection(self.client, self.server, transport.get_extra_info("socket"))
        # uvicorn gives a copy of this mapping to each request of the connection.
        self.app_state = {**self.app_state, "connection": self.connection}
        self._make_room()

    def flushed(self) -> asyncio.Transport:
        """Send what is held back, and return the transport to the client itself."""
        return cast("JoiningTransport", self.transport).flushed()

    def count_spliced(self, size: int) -> None:
        """Count bytes of a body that were read from the socket by `zero_copy`."""
        self._came += size
        self._budget.begin_piece(size)
        self._budget.add_content(size)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        self._timer.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._awaits = True
        self._came += len(data)
        self._budget.begin_piece(len(data))
        super().data_received(data)
        if not self.transport.is_closing() and not self._budget.end_piece(len(data)):
            self.send_400_response("The request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what arrived, and close the connection."""
        super().send_400_response(self._fault or msg)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._budget.begin_message()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is counted and dropped, as nothing here has a use for one."""
        self._count(len(name) + len(value) + 4, fields=1)
        if self._budget.is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note the end of a head."""
        self._budget.end_head()
        upgrades = self.parser.should_upgrade()
        if upgrades and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            # The parser takes the body of such a request for data of another protocol.
            self._refuse("A request with a body can't ask for another protocol.")
        super().on_headers_complete()
        if upgrades or self.expect_100_continue:
            # What follows such a request may be anything: a body that the client sends or, after a refusal, does not.
            self.cycle.keep_alive = False
        if len(self.pipeline) > MAX_WAITING:
            self._refuse("Too many requests wait for the answer to an earlier one.")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._budget.add_content(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that what comes next is a head, when it comes."""
        self._budget.end_message()
        self._awaits = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin with the next request; no more are read while some wait."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def _count(self, size: int, *, fields: int = 0) -> None:
        if not self._budget.add_head(size, fields):
            self._refuse("The head of the request is too long.")

    def _refuse(self, why: str) -> None:
        """End the parser's work; uvicorn answers with `send_400_response`.

        Raises:
            HttpParserError: always.
        """
        self._fault = why
        raise HttpParserError(why)

    def _make_room(self) -> None:
        """Close one connection when there are too many, of one peer or in all: maybe this one."""
        others = [one for one in self.connections if isinstance(one, JoiningProtocol) and one.is_open(self)]
        crowd = [one for one in others if one.connection.host == self.connection.host]
        if len(crowd) < MOST_OF_ONE:
            crowd = others
            if len(crowd) < MOST_CONNECTIONS:
                return
        # Among strangers the newest has the best chance to say who it is; one stranger takes the place of another.
        victim = min(crowd, key=lambda one: (one.rank, one.connection.number))
        (victim if victim.rank < _BUSY else self).transport.abort()

    def is_open(self, newcomer: "JoiningProtocol") -> bool:
        """Say whether this connection holds a place beside the newcomer."""
        return self is not newcomer and not self.transport.is_closing()

    @property
    def rank(self) -> int:
        """How much this connection deserves to stay open when there are too many."""
        if not self.connection.is_admitted:
            return _STRANGER
        return _IDLE if self.cycle is None or self.cycle.response_complete else _BUSY

    def _look(self, did_await: bool) -> None:
        """Give up a client that is to send or to take something, and has hardly done so between two looks."""
        unsent = self.transport.get_write_buffer_size()
        is_stuck = 0 < unsent == self._unsent
        is_reading = self.awaits_spliced or not self.flow.read_paused
        if is_stuck or (did_await and self._awaits and self._came < LEAST and is_reading):
            self.transport.abort()
            return
        self._came = 0
        self._unsent = unsent
        self._timer = self.loop.call_later(WINDOW, self._look, self._awaits)
