"""Moves files between a connection and the disk without copying them through Python: sendfile(2) and splice(2).

The application gets the connection of a request in its ASGI state, as `CONNECTION`. When the system or the connection
does not support these calls (TLS, not Linux), the caller sends and receives pieces instead.
"""

import asyncio
import os
import select
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fcntl import fcntl
from functools import cache
from typing import Any, BinaryIO

import httptools

from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.transport import CONNECTION, JoiningProtocol

MIN_SIZE = 256 * 1024
"""Minimum size in bytes of a body for which splice is faster."""

_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031
_MAX_TURN_BYTES = 16 << 20
_MAX_TURN_SECONDS = 0.1
"""Limits of one turn of a worker thread: after it, other uploads are served and the caller is checked again."""
_POLL_MILLISECONDS = 5
"""Time within which a client that is sending at full speed sends more."""
_WAIT_SECONDS = 1.0
"""Interval of the checks while a client sends nothing."""
_WORKERS = 4


async def send_file(state: Mapping[str, Any], file: BinaryIO, size: int) -> bool:
    """Send ``size`` bytes of a file as the body of a response; return False when the caller must send pieces instead.

    The caller sends the head before and the end of the body after. If the file became shorter, the connection closes.
    """
    connection: JoiningProtocol | None = state.get(CONNECTION)
    if connection is None or size == 0:
        return False
    cycle = connection.cycle
    plain = connection.flushed()
    if not cycle.disconnected and not plain.is_closing():
        sent = 0
        connection.sends_file = True
        try:
            with suppress(ConnectionError):
                sent = await asyncio.get_running_loop().sendfile(plain, file, 0, size)
        finally:
            connection.sends_file = False
        if sent < size:
            plain.abort()
    # uvicorn compares the sent bytes with the Content-Length, and does not know of these.
    cycle.expected_content_length = 0
    return True


def body_to_splice(scope: Mapping[str, Any]) -> int | None:
    """Return the size in bytes of a body that can be spliced from the socket to a file; None for any other body."""
    connection: JoiningProtocol | None = scope.get("state", {}).get(CONNECTION)
    if connection is None or not hasattr(os, "splice") or connection.transport.get_extra_info("sslcontext") is not None:
        return None
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    if len(lengths) != 1 or is_chunked or connection.cycle.scope is not scope or not connection.cycle.more_body:
        return None
    size = int(lengths[0])
    return size if size >= MIN_SIZE else None


async def receive_file(scope: Mapping[str, Any], target: int, size: int, check: Callable[[bool], None]) -> None:
    """Move the unread body of a request, of the size that `body_to_splice` returned, to an open file.

    ``check`` is called at least once a second with True while more is expected, and with False at the end; it raises
    when the caller has lost its permission. The connection counts the bytes, and closes when the client is too slow.

    Raises:
        RefusedError: the connection was closed, or the caller has lost its permission.
        OSError: the file can't be written; the body was read to its end, so that the client reads the response.
    """
    connection: JoiningProtocol = scope["state"][CONNECTION]
    cycle = connection.cycle
    if cycle.waiting_for_100_continue:
        connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.flushed()
        cycle.waiting_for_100_continue = False
    connection.flow.pause_reading()
    begun = bytes(cycle.body)
    cycle.body = bytearray()
    body = _Body(connection, target, size - len(begun), check)
    try:
        body.write(begun)
        await body.move()
    except BaseException:
        cycle.keep_alive = False
        raise
    finally:
        body.close()
    connection.on_message_complete()
    # The old parser still waits for the body.
    connection.parser = httptools.HttpRequestParser(connection)
    with suppress(AttributeError):  # as uvicorn does
        connection.parser.set_dangerous_leniencies(lenient_data_after_close=True)
    if body.fault is not None:
        raise body.fault


class _Body:
    """The rest of a body that is moved from a socket through a pipe to a file."""

    def __init__(self, connection: JoiningProtocol, target: int, left: int, check: Callable[[bool], None]) -> None:
        self._connection = connection
        self._target = target
        self._left = left
        self._check = check
        self._socket = os.dup(connection.transport.get_extra_info("socket").fileno())
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # the system limits the pipe memory of a user
            fcntl(self._in, _SET_PIPE_SIZE, _PIPE)
        self._void: int | None = None
        self.fault: OSError | None = None

    def close(self) -> None:
        for descriptor in (self._socket, self._out, self._in, *([] if self._void is None else [self._void])):
            os.close(descriptor)

    def write(self, piece: bytes) -> None:
        try:
            left = memoryview(piece)
            while left:
                left = left[os.write(self._target, left) :]
        except OSError as error:
            self._fail(error)

    async def move(self) -> None:
        loop = asyncio.get_running_loop()
        while self._left > 0:
            await self._until_readable()
            redirected, is_over = await loop.run_in_executor(_workers(), self._move)
            self._left -= redirected
            self._connection.count_spliced(redirected)
            if is_over and self._left > 0:
                raise _connection_ended()
            self._check_open()
        self._check(False)

    async def _until_readable(self) -> None:
        """Wait for the client; the connection is closed by its own timer when the client is too slow."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        self._connection.awaits_spliced = True
        try:
            while not readable.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(readable.wait(), _WAIT_SECONDS)
                self._check_open()
        finally:
            self._connection.awaits_spliced = False
            loop.remove_reader(self._socket)

    def _check_open(self) -> None:
        """Raise when the connection was closed (not visible on the duplicated socket) or the token was revoked."""
        if self._connection.cycle.disconnected or self._connection.transport.is_closing():
            raise _connection_ended()
        self._check(True)

    def _move(self) -> tuple[int, bool]:
        """Move the received bytes, in a thread; return their number, and whether the connection ended."""
        total = 0
        deadline = time.monotonic() + _MAX_TURN_SECONDS
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        while total < min(self._left, _MAX_TURN_BYTES) and time.monotonic() < deadline:
            try:
                flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
                count = os.splice(self._socket, self._in, min(self._left - total, _PIPE), flags=flags)
            except BlockingIOError:
                if not waiting.poll(_POLL_MILLISECONDS):
                    break
                continue
            except ConnectionError:
                return total, True
            if count == 0:
                return total, True
            self._empty(count)
            total += count
        return total, False

    def _empty(self, count: int) -> None:
        while count:
            count -= self._splice_out(count)

    def _splice_out(self, count: int) -> int:
        try:
            return os.splice(self._out, self._target if self._void is None else self._void, count)
        except OSError as error:
            self._fail(error)
        return 0

    def _fail(self, error: OSError) -> None:
        """Record the first error of the file, and discard the rest of the body."""
        if self._void is not None:
            raise error
        self.fault = error
        self._void = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _connection_ended() -> RefusedError:
    return RefusedError(ErrorCode.BAD_REQUEST, "The connection was closed before the request was complete.")


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="proj-artifacts")
