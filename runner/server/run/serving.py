"""Runs the loopback server for the command of a run."""

import asyncio
from contextlib import closing

from runner.errors import ProjError
from runner.model import Event, EventKind, Report, RunStatus
from runner.server.api.tracking import Tracking
from runner.server.app import App, build_app
from runner.server.run.guard import loopback_guard
from runner.server.run.session import ChildSession
from runner.server.run.socket import ServingOutcome, ServingRequest
from runner.server.uvicorn_server import make_server, serve_until
from runner.store import runs
from runner.store.database import Database
from runner.store.staging import collect_everywhere

_GRACE = 5.0
"""Seconds that an open request may take after the command ended."""


def serve(request: ServingRequest, report: Report) -> ServingOutcome:
    """Serve the command of a run until it ends, and return the outcome.

    Raises:
        StoreError: the store can't be opened.
    """
    session = ChildSession(
        request.run_id, request.experiment_id, experiment_is_fixed=request.experiment_is_fixed, report=report
    )
    port = int(request.listener.getsockname()[1])
    guard = loopback_guard(request.token, port, request.other_addresses)
    with closing(Database.open(request.home.database)) as database:
        tracking = Tracking(
            database=database,
            home=request.home,
            session=session,
            report=report,
            upstream=request.upstream,
            redact=request.redact,
        )
        collect_everywhere(request.home)
        asyncio.run(_serve_until_ended(build_app(tracking, guard), request))
        try:
            _close_runs(database, session.created_runs)
        except ProjError as error:  # the outcome of the run itself is known
            message = f"Runs that the command created could not be closed: {error.message}"
            report(Event(kind=EventKind.WARNING, message=message, hint=error.hint))
    return ServingOutcome(
        final_status=session.final_status,
        created_runs=session.created_runs,
        written_runs=session.written_runs,
    )


async def _serve_until_ended(app: App, request: ServingRequest) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(request.wake, ended.set)
    try:
        server = make_server(app, keep_alive=3600)
        await serve_until(ended, server, request.listener, *request.others, grace=_GRACE)
    finally:
        loop.remove_reader(request.wake)


def _close_runs(database: Database, run_ids: tuple[str, ...]) -> None:
    """Mark the runs that the command created and left running as lost."""
    for run_id in run_ids:
        if not runs.get(database, run_id).status.is_over:
            runs.update(database, run_id, status=RunStatus.LOST)
