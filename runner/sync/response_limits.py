"""Responses of a server that is not trusted: bounded in memory however packed, and in time however they drip."""

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
"""Bytes a second that a server sends at least, after the time for which it may be silent."""
_GZIP = 31
_ZLIB = 15


class TooSlowError(Exception):
    """An answer drips in so slowly that it was given up."""


class UnknownEncodingError(Exception):
    """An answer is packed in a way that nobody asked for."""


@final
class Watch:
    """Ends a connection when what is waited for takes too long, also where every single byte comes in time."""

    def __init__(self, connection: socket.socket | None, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._begin = time.monotonic()
        self._came = 0
        self._timer: threading.Timer | None = None
        self.has_ended_it = False
        self._set(seconds)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_about: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self, count: int) -> None:
        """Note that bytes came, which earns more time."""
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
    """Return pools, by scheme, on whose connections the head of an answer has to come within the time for one."""
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


def pieces(answer: "BaseHTTPResponse", silence: float) -> Iterator[bytes]:
    """Yield the content of an answer, unpacked, in pieces of a limited size.

    Raises:
        TooSlowError: it does not come as fast as it must; it may be silent for so many seconds.
        UnknownEncodingError: it can't be unpacked.
        HTTPError: the connection ends too early.
    """
    unpack = _unpacker(answer.headers.get("content-encoding", "").strip().lower())
    with Watch(getattr(answer, "_proj_socket", None), silence) as watch:
        try:
            while raw := answer.read1(PIECE, decode_content=False):
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
    with Watch(plain, limit) as watch:
        try:
            return _marked(wait(), plain)
        except Exception as error:
            if watch.has_ended_it:
                raise TimeoutError("the head of the answer takes too long") from error
            raise


def _marked(answer: "HTTPResponse", plain: socket.socket | None) -> "HTTPResponse":
    # A connection that will be closed does not know its socket any more.
    answer._proj_socket = plain  # type: ignore[attr-defined]  # noqa: SLF001
    return answer
