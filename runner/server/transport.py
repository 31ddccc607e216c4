"""uvicorn's HTTP protocol with limits, which sends the head and the body of a response in one write.

uvicorn writes them separately, and each write wakes the client. One write doubles the number of responses a second.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, cast

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.server.budgets import MAX_TRANSFER_FILES, max_files
from runner.server.peers import Connection, HasOption

CONNECTION = "protocol"
"""Key of the connection in the ASGI state of a request."""

# tcpi_bytes_acked of struct tcp_info in <linux/tcp.h>: the received bytes, as a 64-bit number after 120 others.
_ACKNOWLEDGED = struct.Struct("=120xQ")
_TCP_INFO = 192

_UNKNOWN, _IDLE, _BUSY = range(3)

_PIECE = 64 * 1024
"""Bytes read at once. asyncio reads 256 KB, which the allocator maps and unmaps each time: large uploads then take
three times as long."""

MAX_HEAD = 64 * 1024
"""Maximum bytes of the request line, the headers and the trailers of one request."""

MAX_FIELDS = 128
"""Maximum number of headers and trailers of one request; each takes about 150 bytes of memory, however short it is."""

MAX_WAITING = 32
"""Maximum number of pipelined requests of one connection that wait for an earlier response."""

_MAX_FRAMING = 256 * 1024
_FRAMING_PER_BYTE = 8
"""Maximum bytes of chunk framing in a body: a fixed part, and a part for each byte of content."""

WINDOW = 30.0
"""Seconds between two checks of the progress of a client."""

MIN_BYTES = 3000
"""Bytes that a sending client must send in a window; otherwise one byte a second would hold a connection for days."""

_DEFAULT_CONNECTIONS = 2_000

ACCEPT_BATCH = 32
"""Connections that are accepted in one turn of the event loop; up to four times as many are being set up."""

_RESERVED_FILES = 64 + 4 * ACCEPT_BATCH + MAX_TRANSFER_FILES
"""Open files that are reserved for the store, artifacts, Python and connections that are being set up."""

_MIN_CONNECTIONS = 16


def _max_connections() -> int:
    """Return the maximum number of open connections; without a limit, a client could use up all open files."""
    return max(_MIN_CONNECTIONS, min(_DEFAULT_CONNECTIONS, max_files() - _RESERVED_FILES))


MAX_CONNECTIONS = _max_connections()
MAX_PER_ADDRESS = MAX_CONNECTIONS * 3 // 4
"""Maximum number of connections from one address; a reverse proxy has one address."""


def acknowledged_bytes(end: HasOption) -> int | None:
    """Return how many bytes the other end of a connection has received; None if the system does not report it."""
    try:
        return int(_ACKNOWLEDGED.unpack_from(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO))[0])
    except (OSError, AttributeError, struct.error):
        return None


class JoiningTransport:
    """A transport that delays a write until the next write or the next turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  delegates to the transport
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the delayed data together with this data, or delay this data."""
        if self._held:
            self._held, data = b"", self._held + data
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def flushed(self) -> asyncio.Transport:
        """Send the delayed data, and return the wrapped transport."""
        self._flush()
        return self._transport

    def close(self) -> None:
        """Send the delayed data, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class Budget:
    """Counts the bytes of a request that are not content, as they arrive."""

    def __init__(self) -> None:
        self.is_head = True
        self._head = 0
        self._fields = 0
        self._quiet = 0
        self._is_quiet = True
        self._raw = 0
        self._content = 0

    def begin_message(self) -> None:
        """Start a request."""
        self.is_head = True
        self._is_quiet = False
        self._head = self._fields = self._raw = self._content = 0

    def add_head(self, size: int, fields: int) -> bool:
        """Count a part of the head or a trailer; return False when a limit is exceeded."""
        self._is_quiet = False
        self._head += size
        self._fields += fields
        return self._head <= MAX_HEAD and self._fields <= MAX_FIELDS

    def end_head(self) -> None:
        """End the head; headers after it are trailers."""
        self.is_head = self._is_quiet = False

    def add_content(self, size: int) -> None:
        """Count a part of the content."""
        self._is_quiet = False
        self._content += size

    def end_message(self) -> None:
        """End a request."""
        self._is_quiet = False
        self._raw = self._content = 0

    def begin_piece(self, size: int) -> None:
        """Start a piece of received bytes."""
        self._is_quiet = True
        self._raw += size

    def end_piece(self, size: int) -> bool:
        """End a piece of received bytes; return False when too many bytes are not content.

        The parser does not report an incomplete header or the framing of chunks, so both are computed here.
        """
        self._quiet = self._quiet + size if self._is_quiet else 0
        framing = self._raw - self._content - self._head
        return self._quiet <= MAX_HEAD and framing <= _MAX_FRAMING + _FRAMING_PER_BYTE * self._content


class JoiningProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a `JoiningTransport`, smaller reads and limits.

    The parser has no limits, and uvicorn stores all headers, trailers and pipelined requests.
    """

    awaits_spliced = False
    """Whether a body is read from the socket by `zero_copy`, which is waiting for the client."""
    sends_file = False
    """Whether `zero_copy` sends a file, of which the buffer of the transport knows nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start a connection."""
        if hasattr(transport, "max_size"):
            transport.max_size = _PIECE
        self._budget = Budget()
        self._fault = ""
        self._awaits = True
        self._received = 0
        self._unsent = 0
        self._acknowledged: int | None = None
        self._timer = self.loop.call_later(WINDOW, self._check_progress, False)
        self.app_state = {**self.app_state, CONNECTION: self}
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self.connection = Connection(self.client, self.server, transport.get_extra_info("socket"))
        # uvicorn gives a copy of this mapping to each request of the connection.
        self.app_state = {**self.app_state, "connection": self.connection}
        self._enforce_limit()

    def flushed(self) -> asyncio.Transport:
        """Send the delayed data, and return the wrapped transport."""
        return cast("JoiningTransport", self.transport).flushed()

    def count_spliced(self, size: int) -> None:
        """Count bytes of a body that were read from the socket by `zero_copy`."""
        self._received += size
        self._budget.begin_piece(size)
        self._budget.add_content(size)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._timer.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        self._awaits = True
        self._received += len(data)
        self._budget.begin_piece(len(data))
        super().data_received(data)
        if not self.transport.is_closing() and not self._budget.end_piece(len(data)):
            self.send_400_response("The request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Refuse the request, and close the connection."""
        super().send_400_response(self._fault or msg)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._budget.begin_message()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Receive a part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header; a trailer is counted and dropped."""
        self._count(len(name) + len(value) + 4, fields=1)
        if self._budget.is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head of a request."""
        self._budget.end_head()
        upgrades = self.parser.should_upgrade()
        if upgrades and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            # The parser treats the body of such a request as data of another protocol.
            self._refuse("A request with a body can't upgrade to another protocol.")
        super().on_headers_complete()
        if upgrades or self.expect_100_continue:
            # The next bytes are ambiguous: after a refusal, the client may or may not send the body.
            self.cycle.keep_alive = False
        if len(self.pipeline) > MAX_WAITING:
            self._refuse("Too many pipelined requests wait for an earlier response.")

    def on_body(self, body: bytes) -> None:
        """Receive a part of a body."""
        self._budget.add_content(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the client may now be idle."""
        self._budget.end_message()
        self._awaits = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next pipelined request; reading stays paused while more of them wait."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def _count(self, size: int, *, fields: int = 0) -> None:
        if not self._budget.add_head(size, fields):
            self._refuse("The head of the request is too long.")

    def _refuse(self, why: str) -> None:
        """Stop the parser; uvicorn then calls `send_400_response`.

        Raises:
            HttpParserError: always.
        """
        self._fault = why
        raise HttpParserError(why)

    def _enforce_limit(self) -> None:
        """Close one connection, possibly this one, when there are too many from one address or in total."""
        others = [one for one in self.connections if isinstance(one, JoiningProtocol) and one.is_open(self)]
        crowd = [one for one in others if one.connection.host == self.connection.host]
        if len(crowd) < MAX_PER_ADDRESS:
            crowd = others
            if len(crowd) < MAX_CONNECTIONS:
                return
        # Unauthenticated connections replace each other: the newest is the most likely to authenticate.
        victim = min(crowd, key=lambda one: (one.rank, one.connection.number))
        (victim if victim.rank < _BUSY else self).transport.abort()

    def is_open(self, newcomer: "JoiningProtocol") -> bool:
        """Check whether this connection counts against the limit for the newcomer."""
        return self is not newcomer and not self.transport.is_closing()

    @property
    def rank(self) -> int:
        """The priority of this connection when there are too many: unknown, idle or busy."""
        if not self.connection.is_admitted:
            return _UNKNOWN
        return _IDLE if self.cycle is None or self.cycle.response_complete else _BUSY

    def _check_progress(self, did_await: bool) -> None:
        """Close the connection of a client that has sent or taken too few bytes since the last check."""
        unsent = self.transport.get_write_buffer_size()
        acknowledged = acknowledged_bytes(self.transport.get_extra_info("socket")) if self.sends_file else None
        if acknowledged is not None and acknowledged == self._acknowledged:
            self._end_sending()
            return
        self._acknowledged = acknowledged
        is_stuck = 0 < unsent == self._unsent
        is_reading = self.awaits_spliced or not self.flow.read_paused
        if is_stuck or (did_await and self._awaits and self._received < MIN_BYTES and is_reading):
            self.transport.abort()
            return
        self._received = 0
        self._unsent = unsent
        self._timer = self.loop.call_later(WINDOW, self._check_progress, self._awaits)

    def _end_sending(self) -> None:
        """Make sendfile(2) fail: asyncio waits for ever if a socket that is being sent to is closed."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
