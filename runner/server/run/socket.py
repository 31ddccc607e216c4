"""The loopback socket of a run's command: bound before the start, served only once somebody connects."""

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
"""Variables of the user that would lead a client elsewhere, or make it hide the token that it is given."""

_LOOPBACK = "127.0.0.1"
_MOST_TOLD = 40
"""Events of one command that are told at its end: a loop may cause thousands."""

_POLITE = {
    # A client tries again for four minutes per call by default, also when nobody is there any more.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The address of a page that nobody serves, least of all after the run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_SERVING = "runner.server.run.serving"
"""What is loaded on the first connection: some 20 ms of our own modules, and 80 ms of uvicorn."""


class ServingRequest(Struct, frozen=True, kw_only=True):
    """Whose command is served, and how."""

    home: Home
    run_id: str
    experiment_id: str
    experiment_is_fixed: bool
    token: str
    listener: socket.socket
    wake: socket.socket
    """Becomes readable when the command has ended."""
    others: tuple[socket.socket, ...] = ()
    other_addresses: tuple[str, ...] = ()
    """Further sockets to serve, and what clients call them."""
    upstream: "Upstream | None" = None
    redact: Callable[[bytes], bytes] | None = None
    """Takes secrets out of the body of a request."""


class ServingOutcome(Struct, frozen=True, kw_only=True):
    """What the command did with its own run, and which runs it made, oldest first.

    ``final_status`` is the status in which a client left the run of its own accord, None where none ended it.
    """

    final_status: RunStatus | None = None
    created_runs: tuple[str, ...] = ()
    written_runs: tuple[str, ...] = ()
    """Those that it made, and others that it wrote to."""


Serve = Callable[[ServingRequest, Report], ServingOutcome]


@final
class ChildSocket:
    """A socket on the loopback address that speaks MLflow's protocol to the command of one run.

    As a context it is open from before the start of the command until after its end. What the command sent before it
    ended is kept. After the end, runs that the command made and left running are closed as lost, and what happened
    meanwhile is reported, each thing once, on the caller's thread.
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
        """The tracking server that the run is recorded on too."""
        self.redact: Callable[[bytes], bytes] | None = None
        """Takes secrets out of what the command logs."""
        self.was_used = False
        """Whether anybody connected; known at the end."""
        self._experiment_is_fixed = experiment_is_fixed
        self._report = report
        self._events: dict[tuple[EventKind, str], Event] = {}
        self._outcome = ServingOutcome()
        self._open = ExitStack()

    def __enter__(self) -> "ChildSocket":
        with ExitStack() as opening:
            # Only of a socket that says TCP does asyncio turn off Nagle's algorithm, which costs 40 ms per answer.
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
        for event in events[:_MOST_TOLD]:
            self._report(event)
        if len(events) > _MOST_TOLD:
            told = f"and {len(events) - _MOST_TOLD} more notices about what the command did"
            self._report(Event(kind=EventKind.NOTICE, message=told))

    @property
    def uri(self) -> str:
        """The address for a client of MLflow."""
        return f"http://{_LOOPBACK}:{self.port}"

    @property
    def final_status(self) -> RunStatus | None:
        """The status in which a client left the run of its own accord, None where none ended it; known at the end."""
        return self._outcome.final_status

    @property
    def created_runs(self) -> tuple[str, ...]:
        """The ids of the runs that the command made, oldest first; known at the end."""
        return self._outcome.created_runs

    @property
    def written_runs(self) -> tuple[str, ...]:
        """The ids of the other runs that the command made or wrote to; known at the end."""
        return self._outcome.written_runs

    def variables(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the variables with which a client of any version logs to the run.

        ``environ`` is the user's; what it says about retries and proxies is kept.
        """
        run_id, experiment_id = self._run
        exempt = {name: _with_loopback(environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
        return {
            **{name: environ.get(name) or value for name, value in _POLITE.items()},
            **exempt,
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_EXPERIMENT_ID": experiment_id,
        }

    def _wait(self, listener: socket.socket, wake: socket.socket, others: tuple[socket.socket, ...]) -> None:
        """Wait for the first connection or the end; the server is not even imported before."""
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
        except Exception as error:  # noqa: BLE001  a bug of ours must not cost the result of the run
            self._note_failure(f"{type(error).__name__}: {error}")

    def _note_failure(self, hint: str) -> None:
        self._note(Event(kind=EventKind.WARNING, message="The command could not log to its run any more", hint=hint))

    def _note(self, event: Event) -> None:
        """Keep an event for the end; a fault of each of a thousand requests is told once."""
        self._events.setdefault((event.kind, event.message), event)


def _listen_at(address: str) -> socket.socket:
    """Return a socket that listens at an address which the script itself chose."""
    host, _, number = address.rpartition(":")
    host, port = host.strip("[]"), int(number)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # runs that follow each other
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
    """Return a list of hosts that no proxy is asked for, with the loopback address among them."""
    known = [name.strip() for name in names.split(",") if name.strip()]
    if "*" in known:
        return names
    return ",".join([*known, *(host for host in (_LOOPBACK, "localhost") if host not in known)])
