"""The loopback socket for the command of a run: bound before the start, served from the first connection on."""

import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, final

from msgspec import Struct

from runner.base.plurals import counted
from runner.errors import ExecutionError, ProjError
from runner.model import Event, EventKind, Report, RunStatus
from runner.settings import Home

if TYPE_CHECKING:
    from runner.server.api.tracking import Upstream

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
"""Variables of the user that would make a client use another server, or not send the token."""

_LOOPBACK = "127.0.0.1"
_MAX_NOTICES = 40
"""Maximum number of events that are reported at the end of a command: a loop may cause thousands."""

_CLIENT_SETTINGS = {
    # By default a client retries each call for four minutes, also when the server is gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The printed URL would be of a page that does not exist.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_SERVING = "runner.server.run.serving"
"""Module that is imported on the first connection: this takes 20 ms for proj and 80 ms for uvicorn."""


class ServingRequest(Struct, frozen=True, kw_only=True):
    """The parameters of the server of a run."""

    home: Home
    run_id: str
    experiment_id: str
    experiment_is_fixed: bool
    token: str
    listener: socket.socket
    wake: socket.socket
    """Becomes readable when the command ends."""
    others: tuple[socket.socket, ...] = ()
    other_addresses: tuple[str, ...] = ()
    """Further sockets to serve, and their addresses in the code of the command."""
    upstream: "Upstream | None" = None
    redact: Callable[[bytes], bytes] | None = None
    """Removes secrets from the body of a request."""


class ServingOutcome(Struct, frozen=True, kw_only=True):
    """The result of serving a command; ``created_runs`` are the runs that it created, oldest first.

    ``final_status`` is the status that a client set at its end; None when no client ended the run.
    """

    final_status: RunStatus | None = None
    created_runs: tuple[str, ...] = ()
    written_runs: tuple[str, ...] = ()
    """Runs that the command created, and other runs that it wrote to."""


Serve = Callable[[ServingRequest, Report], ServingOutcome]


@final
class ChildSocket:
    """A loopback socket that serves MLflow's protocol to the command of one run.

    The context is open from before the start of the command until after its end. Requests that were sent before the end
    are stored. At the end, runs that the command created and left running are marked as lost, and the events are
    reported without duplicates on the thread of the caller.
    """

    def __init__(
        self,
        home: Home,
        run_id: str,
        experiment_id: str,
        report: Report,
        *,
        experiment_is_fixed: bool = False,
        serve_as: tuple[str, ...] = (),
    ) -> None:
        self.token = os.urandom(32).hex()
        self.port = 0
        self._home = home
        self._run = (run_id, experiment_id)
        self._serve_as = serve_as
        self.upstream: Upstream | None = None
        """The tracking server that also records the run."""
        self.redact: Callable[[bytes], bytes] | None = None
        """Removes secrets from the requests of the command."""
        self.was_used = False
        """Whether a client connected; known at the end."""
        self._experiment_is_fixed = experiment_is_fixed
        self._report = report
        self._events: dict[tuple[EventKind, str], Event] = {}
        self._outcome = ServingOutcome()
        self._open = ExitStack()

    def __enter__(self) -> "ChildSocket":
        with ExitStack() as opening:
            # asyncio sets TCP_NODELAY only on sockets with an explicit IPPROTO_TCP; without it a response takes 40 ms.
            listener = opening.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            listener.bind((_LOOPBACK, 0))
            listener.listen(128)
            self.port = int(listener.getsockname()[1])
            wake, waker = (opening.enter_context(end) for end in socket.socketpair())
            others = tuple(opening.enter_context(_listen_at(address)) for address in self._serve_as)
            thread = threading.Thread(
                target=self._wait, args=(listener, wake, others), name="proj-child-socket", daemon=True
            )
            thread.start()
            opening.callback(thread.join)
            opening.callback(waker.send, b"x")
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        events = list(self._events.values())
        for event in events[:_MAX_NOTICES]:
            self._report(event)
        if len(events) > _MAX_NOTICES:
            message = f"and {counted(len(events) - _MAX_NOTICES, 'more notice')} about what the command did"
            self._report(Event(kind=EventKind.NOTICE, message=message))

    @property
    def uri(self) -> str:
        """The tracking URI for a client of MLflow."""
        return f"http://{_LOOPBACK}:{self.port}"

    @property
    def final_status(self) -> RunStatus | None:
        """The status that a client set at its end, None when no client ended the run; known at the end."""
        return self._outcome.final_status

    @property
    def created_runs(self) -> tuple[str, ...]:
        """The ids of the runs that the command created, oldest first; known at the end."""
        return self._outcome.created_runs

    @property
    def written_runs(self) -> tuple[str, ...]:
        """The ids of the other runs that the command created or wrote to; known at the end."""
        return self._outcome.written_runs

    def variables(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the variables with which a client of any version logs to the run.

        ``environ`` is the environment of the user; its settings for retries and proxies are kept.
        """
        run_id, experiment_id = self._run
        exempt = {name: _with_loopback(environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
        return {
            **{name: environ.get(name) or value for name, value in _CLIENT_SETTINGS.items()},
            **exempt,
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_EXPERIMENT_ID": experiment_id,
        }

    def _wait(self, listener: socket.socket, wake: socket.socket, others: tuple[socket.socket, ...]) -> None:
        """Wait for the first connection or the end; only the first connection imports the server."""
        select.select([listener, *others, wake], [], [])
        if not select.select([listener, *others], [], [], 0)[0]:
            return
        self.was_used = True
        run_id, experiment_id = self._run
        request = ServingRequest(
            home=self._home,
            run_id=run_id,
            experiment_id=experiment_id,
            experiment_is_fixed=self._experiment_is_fixed,
            token=self.token,
            listener=listener,
            wake=wake,
            others=others,
            other_addresses=self._serve_as,
            upstream=self.upstream,
            redact=self.redact,
        )
        try:
            serve: Serve = import_module(_SERVING).serve
            self._outcome = serve(request, self._note)
        except ProjError as error:
            self._note_failure(" ".join(part for part in (error.message, error.context, error.hint) if part))
        except Exception as error:  # noqa: BLE001  a bug of proj must not lose the result of the run
            self._note_failure(f"{type(error).__name__}: {error}")

    def _note_failure(self, hint: str) -> None:
        self._note(Event(kind=EventKind.WARNING, message="The command could not log to its run any more", hint=hint))

    def _note(self, event: Event) -> None:
        """Store an event for the end; an error that a thousand requests cause is reported once."""
        self._events.setdefault((event.kind, event.message), event)


def _listen_at(address: str) -> socket.socket:
    """Return a socket that listens at an address from the code of the command."""
    host, _, number = address.rpartition(":")
    host, port = host.strip("[]"), int(number)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows the next run to use the address
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ExecutionError(
            f"this run can't serve {address}: {error.strerror}",
            hint="end the server that listens there, or leave --serve-as out and let the script use it",
        ) from error
    return listener


def _with_loopback(names: str) -> str:
    """Add the loopback address to the value of NO_PROXY."""
    known = [name.strip() for name in names.split(",") if name.strip()]
    if "*" in known:
        return names
    return ",".join([*known, *(host for host in (_LOOPBACK, "localhost") if host not in known)])
