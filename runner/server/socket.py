"""The loopback socket of a run's command: bound before the start, served only once somebody connects."""

import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, final

from runner.errors import ProjError
from runner.model import Event, EventKind, Report, RunStatus
from runner.server.app import build_app
from runner.server.guards import loopback_guard
from runner.server.sessions import ChildSession
from runner.server.tracking import Tracking
from runner.server.transport import joining_protocol
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database

if TYPE_CHECKING:
    import uvicorn

REMOVED_VARIABLES = (
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_WORKSPACE",
)
"""Variables of the user that would lead a client elsewhere, or make it hide the token that it is given."""

_LOOPBACK = "127.0.0.1"

_POLITE = {
    # A client tries again for four minutes per call by default, also when nobody is there any more.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}

_QUIET = 0.002
"""Seconds in which a loopback connection shows what it has; measured 0.2 ms at worst on two busy cores."""

_GRACE = 5.0
"""Seconds that a request which has begun may take after the command ended."""


@final
class ChildSocket:
    """A socket on the loopback address that speaks MLflow's protocol to the command of one run.

    As a context it is open from before the start of the command until after its end. What the command sent before it
    ended is kept. After the end, runs that the command made and left running are closed.
    """

    def __init__(
        self,
        home: Home,
        run_id: str,
        experiment_id: str,
        report: Report,
        *,
        experiment_is_fixed: bool = False,
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self._home = home
        self._run = (run_id, experiment_id)
        self._report = report
        self._session = ChildSession(run_id, experiment_id, experiment_is_fixed=experiment_is_fixed, report=report)
        # Only of a socket that says TCP does asyncio turn off Nagle's algorithm, which costs 40 ms per answer.
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._wake, self._waker = socket.socketpair()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="proj-child-socket", daemon=True)

    def __enter__(self) -> "ChildSocket":
        self._listener.bind((_LOOPBACK, 0))
        self._listener.listen(128)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._waker.send(b"x")
        self._thread.join()
        for end in (self._listener, self._wake, self._waker):
            end.close()

    @property
    def port(self) -> int:
        """The port that the socket is bound to."""
        return int(self._listener.getsockname()[1])

    @property
    def final_status(self) -> RunStatus | None:
        """The status in which a client left the run of its own accord, None where none ended it."""
        return self._session.final_status

    @property
    def created_runs(self) -> tuple[str, ...]:
        """The ids of the runs that the command made, oldest first."""
        return tuple(self._session.created_runs)

    def variables(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the variables with which a client of any version logs to the run.

        ``environ`` is the user's; what it says about retries and proxies is kept.
        """
        run_id, experiment_id = self._run
        exempt = {name: _with_loopback(environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
        return {
            **{name: environ.get(name) or value for name, value in _POLITE.items()},
            **exempt,
            "MLFLOW_TRACKING_URI": f"http://{_LOOPBACK}:{self.port}",
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_EXPERIMENT_ID": experiment_id,
        }

    def _wait(self) -> None:
        """Wait for the first connection or the end; the server is not even imported before."""
        select.select([self._listener, self._wake], [], [])
        if not select.select([self._listener], [], [], 0)[0]:
            return
        try:
            with closing(Database.open(self._home.database)) as database:
                self._serve(database)
                self._close_runs(database)
        except (ProjError, ImportError, OSError) as error:
            message = "The run can't be logged to any more"
            self._report(Event(kind=EventKind.WARNING, message=message, hint=f"{type(error).__name__}: {error}"))

    def _serve(self, database: Database) -> None:
        import asyncio
        import logging

        import uvicorn

        # Without this, what uvicorn says of bad requests would reach the user's terminal.
        logging.getLogger("uvicorn").addHandler(logging.NullHandler())
        tracking = Tracking(database=database, home=self._home, session=self._session, report=self._report)
        config = uvicorn.Config(
            build_app(tracking, loopback_guard(self.token, self.port)),
            loop="asyncio",
            http=joining_protocol(),
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
        asyncio.run(self._serve_until_closed(uvicorn.Server(config)))

    async def _serve_until_closed(self, server: "uvicorn.Server") -> None:
        """Do what ``Server.serve`` does, but end as soon as nothing is left to do: it looks ten times a second."""
        import asyncio

        config = server.config
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[self._listener])
        await server.on_tick(0)
        closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._wake, closed.set)
        await closed.wait()
        asyncio.get_running_loop().remove_reader(self._wake)
        await self._drain(server)
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)

    async def _drain(self, server: "uvicorn.Server") -> None:
        """Answer what the command sent before it ended: nothing new is under way after it is gone."""
        import asyncio

        deadline = time.monotonic() + _GRACE
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:  # noqa: PLR2004
            await asyncio.sleep(_QUIET)
            waiting = select.select([self._listener], [], [], 0)[0]
            quiet = 0 if server.server_state.tasks or waiting else quiet + 1

    def _close_runs(self, database: Database) -> None:
        """Close the runs that the command made and left running, for nobody will any more."""
        for run_id in self._session.created_runs:
            if not runs.get(database, run_id).status.is_over:
                runs.update(database, run_id, status=RunStatus.LOST)


def _with_loopback(names: str) -> str:
    """Return a list of hosts that no proxy is asked for, with the loopback address among them."""
    known = [name.strip() for name in names.split(",") if name.strip()]
    return ",".join(
        known if "*" in known else [*known, *(host for host in (_LOOPBACK, "localhost") if host not in known)]
    )
