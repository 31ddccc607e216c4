"""Sends responses through ASGI; large ones in pieces, so that slow clients hold a limited amount of memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from runner.protocol.errors import RefusedError, Response, response_for
from runner.server.api.tracking import Stream
from runner.server.budgets import RESPONSES

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

PIECE = 256 * 1024
"""Bytes of a response that are written at once."""


async def send_response(send: Send, response: Response, *more: tuple[bytes, bytes]) -> Response:
    """Send a response, or one that refuses it when other clients do not take their large responses.

    ``more`` are further headers. The response that was sent is returned.
    """
    size = len(response.body)
    try:
        with RESPONSES.hold(size if size > PIECE else 0):
            await _send(send, response, more)
    except RefusedError as error:
        response = response_for(error)
        await _send(send, response, ())
    return response


async def _send(send: Send, response: Response, more: tuple[tuple[bytes, bytes], ...]) -> None:
    body = response.body
    kind = b"application/json" if body.startswith(b"{") else b"text/plain"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    last = max(0, len(body) - 1) // PIECE * PIECE
    # uvicorn waits for the client between two pieces.
    for start in range(0, last, PIECE):
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
    await send({"type": "http.response.body", "body": body[last:]})


async def send_stream(stream: Stream, send: Send) -> None:
    """Send a response whose pieces are computed while it is sent."""
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in stream.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Yields to other requests, also when this client reads without delay.
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def pieces_of(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """Yield exactly ``size`` bytes of a file that may grow; fewer bytes make uvicorn close the connection."""
    while size > 0:
        piece = read(min(PIECE, size))
        if not piece:
            return
        size -= len(piece)
        yield piece
