"""Configures and runs uvicorn: no logging, no proxy headers, and a shutdown that waits only for open requests."""

import asyncio
import logging
import select
import socket
import time
from pathlib import Path

import uvicorn

from runner.server.app import App
from runner.server.transport import ACCEPT_BATCH, JoiningProtocol

_POLL_SECONDS = 0.002
"""Seconds between two checks for open requests; data of a loopback connection arrives within 0.2 ms."""

_QUIET_POLLS = 3

_QUEUE = 512
"""Connections that the kernel queues until they are accepted."""


def make_server(
    app: App,
    *,
    keep_alive: int,
    tls: tuple[Path, Path] | None = None,
) -> uvicorn.Server:
    """Build a server without starting it; ``tls`` are the files of the certificate and of its private key.

    Raises:
        OSError: a TLS file can not be read, or is invalid.
    """
    # Keeps the log messages of uvicorn about bad requests off the terminal.
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=JoiningProtocol,
        backlog=ACCEPT_BATCH,
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
    """Serve until ``ended`` is set, then finish open requests within ``grace`` seconds.

    Replaces ``Server.serve``, which checks for the end only ten times a second and then waits once more.
    """
    await server.startup(sockets=list(listeners))
    for listener in listeners:
        # asyncio accepts up to its own backlog at once, before any connection is counted; the kernel queues more.
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
    """Finish the requests that were sent before the end."""
    deadline = time.monotonic() + grace
    quiet = 0
    while quiet < _QUIET_POLLS and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        waiting = select.select(listeners, [], [], 0)[0]
        quiet = 0 if waiting or server.server_state.tasks else quiet + 1
