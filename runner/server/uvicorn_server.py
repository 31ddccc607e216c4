"""uvicorn as we use it: quiet, without what proxies and browsers say, and gone as soon as all is answered."""

import asyncio
import logging
import select
import socket
import time
from pathlib import Path

import uvicorn

from runner.server.app import App
from runner.server.transport import ACCEPTED, JoiningProtocol

_LOOK = 0.002
"""Seconds between two looks for what is still to do; a loopback connection shows what it has within 0.2 ms."""

_QUIET_LOOKS = 3

_QUEUE = 512
"""Connections that the kernel holds until they are accepted."""


def make_server(
    app: App,
    *,
    keep_alive: int,
    tls: tuple[Path, Path] | None = None,
) -> uvicorn.Server:
    """Make a server that is not started; ``tls`` are the files of the certificate and of its key.

    Raises:
        OSError: such a file can't be read, or is none.
    """
    # Without this, what uvicorn says of bad requests would reach the user's terminal.
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=JoiningProtocol,
        backlog=ACCEPTED,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=keep_alive,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


async def serve_until(ended: asyncio.Event, server: uvicorn.Server, *listeners: socket.socket, grace: float) -> None:
    """Serve until an event, then answer what has begun, for ``grace`` seconds at most.

    This does what ``Server.serve`` does, which looks only ten times a second whether to end, and then waits once more.
    """
    await server.startup(sockets=list(listeners))
    for listener in listeners:
        # asyncio accepts as many at once as its queue is long, before any of them is counted.
        listener.listen(_QUEUE)
    await server.on_tick(0)
    await ended.wait()
    await _drain(server, listeners, grace)
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    await asyncio.sleep(0)


async def _drain(server: uvicorn.Server, listeners: tuple[socket.socket, ...], grace: float) -> None:
    """Answer what was sent before the end; nothing new comes after."""
    deadline = time.monotonic() + grace
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK)
        waiting = select.select(listeners, [], [], 0)[0]
        quiet = 0 if waiting or server.server_state.tasks else quiet + 1
