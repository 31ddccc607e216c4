"""The server behind the loopback socket of a run's command."""

import asyncio
import logging
import select
import time
from contextlib import closing

import uvicorn

from runner.model import Report, RunStatus
from runner.server.app import App, build_app
from runner.server.guards import loopback_guard
from runner.server.sessions import ChildSession
from runner.server.socket import ServingOutcome, ServingRequest
from runner.server.tracking import Tracking
from runner.server.transport import JoiningProtocol
from runner.store import runs
from runner.store.database import Database

_LOOK = 0.002
"""Seconds between two looks for what is still to do; a loopback connection shows what it has within 0.2 ms."""

_QUIET_LOOKS = 3

_GRACE = 5.0
"""Seconds that a request which has begun may take after the command ended."""


def serve(request: ServingRequest, report: Report) -> ServingOutcome:
    """Serve the command of a run until it has ended, and say what it did.

    Raises:
        StoreError: the store can't be opened.
    """
    session = ChildSession(
        request.run_id, request.experiment_id, experiment_is_fixed=request.experiment_is_fixed, report=report
    )
    port = int(request.listener.getsockname()[1])
    with closing(Database.open(request.home.database)) as database:
        tracking = Tracking(database=database, home=request.home, session=session, report=report)
        asyncio.run(_serve_until_woken(_server(build_app(tracking, loopback_guard(request.token, port))), request))
        _close_runs(database, session.created_runs)
    return ServingOutcome(final_status=session.final_status, created_runs=tuple(session.created_runs))


def _server(app: App) -> uvicorn.Server:
    # Without this, what uvicorn says of bad requests would reach the user's terminal.
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=JoiningProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=3600,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


async def _serve_until_woken(server: uvicorn.Server, request: ServingRequest) -> None:
    """Do what ``Server.serve`` does, which looks only ten times a second whether to end, and then waits once more."""
    await server.startup(sockets=[request.listener])
    await server.on_tick(0)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(request.wake, ended.set)
    await ended.wait()
    loop.remove_reader(request.wake)
    await _drain(server, request)
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    await asyncio.sleep(0)


async def _drain(server: uvicorn.Server, request: ServingRequest) -> None:
    """Answer what the command sent before it ended; nothing new comes after."""
    deadline = time.monotonic() + _GRACE
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK)
        waiting = select.select([request.listener], [], [], 0)[0]
        quiet = 0 if waiting or server.server_state.tasks else quiet + 1


def _close_runs(database: Database, run_ids: list[str]) -> None:
    """Close the runs that the command made and left running, for nobody will any more."""
    for run_id in run_ids:
        if not runs.get(database, run_id).status.is_over:
            runs.update(database, run_id, status=RunStatus.LOST)
