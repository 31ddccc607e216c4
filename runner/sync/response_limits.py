"""Limits the memory and the time that the responses of an untrusted server can use."""

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse
    from urllib3.connection import HTTPConnection

PIECE = 1 << 20
_SLOWEST = 1000
"""Minimum transfer rate in bytes per second, after the permitted silence."""
_GZIP = 31
_ZLIB = 15


class TooSlowError(Exception):
    """A response was aborted because it arrives too slowly."""


class UnknownEncodingError(Exception):
    """A response has a content encoding that was not requested."""


@final
class Watchdog:
    """Closes a connection if a response takes too long, even if single bytes arrive in time."""

    def __init__(self, connection: socket.socket | None, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._begin = time.monotonic()
        self._came = 0
        self._timer: threading.Timer | None = None
        self.has_ended_it = False
        self._set(seconds)

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *_about: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self, count: int) -> None:
        """Record received bytes, which extend the deadline."""
        self._came += count

    def _set(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        left = self._begin + self._seconds + self._came / _SLOWEST - time.monotonic()
        if left > 0:
            self._set(left)
            return
        self.has_ended_it = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


@cache
def pool_classes() -> "dict[str, type[HTTPConnectionPool]]":
    """Return pool classes, by scheme, that limit the time until the head of a response is received."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class PlainConnection(HTTPConnection):
        def getresponse(self) -> "HTTPResponse":  # type: ignore[override]
            return _watched(self, super().getresponse)

    class SecureConnection(HTTPSConnection):
        def getresponse(self) -> "HTTPResponse":  # type: ignore[override]
            return _watched(self, super().getresponse)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": PlainPool, "https": SecurePool}


def pieces(response: "BaseHTTPResponse", silence: float) -> Iterator[bytes]:
    """Yield the decoded content of a response in pieces of limited size.

    Raises:
        TooSlowError: the response arrives too slowly; ``silence`` is the permitted silence in seconds.
        UnknownEncodingError: the content can't be decoded.
        HTTPError: the connection ends early.
    """
    unpack = _unpacker(response.headers.get("content-encoding", "").strip().lower())
    with Watchdog(getattr(response, "_proj_socket", None), silence) as watch:
        try:
            while raw := response.read1(PIECE, decode_content=False):
                watch.note(len(raw))
                yield from unpack(raw)
        except zlib.error as error:
            raise UnknownEncodingError(str(error)) from error
        except Exception as error:
            if watch.has_ended_it:
                raise TooSlowError from error
            raise
        if watch.has_ended_it:
            raise TooSlowError


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    if encoding in ("", "identity"):
        return lambda raw: iter((raw,))
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnknownEncodingError(encoding[:40])
    packed = zlib.decompressobj(_ZLIB if encoding == "deflate" else _GZIP)

    def unpack(raw: bytes) -> Iterator[bytes]:
        while raw and not packed.eof:
            yield packed.decompress(raw, PIECE)
            raw = packed.unconsumed_tail

    return unpack


def _watched(connection: "HTTPConnection", wait: "Callable[[], HTTPResponse]") -> "HTTPResponse":
    plain = connection.sock
    seconds = connection.timeout
    limit = seconds if isinstance(seconds, int | float) else None
    if limit is None:
        return _marked(wait(), plain)
    with Watchdog(plain, limit) as watch:
        try:
            return _marked(wait(), plain)
        except Exception as error:
            if watch.has_ended_it:
                raise TimeoutError("the head of the answer takes too long") from error
            raise


def _marked(response: "HTTPResponse", plain: socket.socket | None) -> "HTTPResponse":
    # http.client drops the socket of a connection that will be closed.
    response._proj_socket = plain  # type: ignore[attr-defined]  # noqa: SLF001
    return response
