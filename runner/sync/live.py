"""Forwards a run to a tracking server while it is running.

Values are written to the local store first, so a slow or unreachable server does not delay the run.
"""

import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import final

from msgspec import Struct, structs

from runner.errors import NotFoundError, ProjError, RemoteError
from runner.model import DEFAULT_EXPERIMENT, Event, EventKind, RunStatus
from runner.process import Interrupted
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun, Run
from runner.store.row_helpers import RUN_ID
from runner.sync import sync_state
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.push import Destination, ensure_experiment, push
from runner.sync.same_id import PROBE_TAG
from runner.sync.sync_state import SentPosition
from runner.sync.transport import Patience

INTERVAL = 3.0
"""Seconds between two transfers."""
_LONGEST = 60.0
"""Seconds between two attempts to reach an unreachable server."""
_JUST_NOW = 5.0
"""Seconds during which an unreachable server is not tried again."""
_PATIENCE = Patience(connect=5.0, read=15.0, retries=0)


class OpenedRun(Struct, frozen=True, kw_only=True):
    """A run that is open on a server, in the experiment with this name."""

    server: RemoteServer
    run: ServerRun
    experiment: str
    probe: str
    """A random nonce, stored as a tag until the first push."""

    def local_id(self, database: Database) -> str | None:
        """Return the server's run id if it can also be used locally."""
        if not RUN_ID.fullmatch(self.run.run_id) or _find(database, self.run.run_id) is not None:
            return None
        return self.run.run_id

    def give_up(self) -> None:
        """Close the run on the server; it will have no local counterpart."""
        try:
            self.server.update_run(self.run.run_id, RunStatus.FAILED, ended_at=time.time_ns() // 1_000_000)
        except RemoteError:
            return
        finally:
            self.server.close()


def open_on_server(
    uri: str,
    new: NewRun,
    *,
    experiment: str | None,
    experiment_id: str | None,
    default: str = DEFAULT_EXPERIMENT,
    environ: Mapping[str, str] = os.environ,
) -> OpenedRun:
    """Create a run on a server.

    Args:
        uri: the server's URI, possibly with credentials.
        new: the run; its experiment is ignored.
        experiment: the name of the experiment, created if it does not exist; None for the default.
        experiment_id: the server's experiment id, instead of a name.
        default: the experiment if none is named; if the server refuses it, the server's default experiment is used.
        environ: environment variables with credentials.

    Raises:
        UsageError: the URI or a setting is invalid.
        RemoteError: the server can't be reached or refuses.
    """
    server = RemoteServer(uri, environ, patience=structs.replace(_PATIENCE, read=60.0))
    try:
        if experiment_id is not None:
            experiment = server.experiment(experiment_id).name
        elif experiment is not None:
            experiment_id = ensure_experiment(server, experiment)
        else:
            experiment, experiment_id = _ensure_default(server, default)
        probe = os.urandom(8).hex()
        tags = {**new.tags, PROBE_TAG: probe}
        run = server.create_run(structs.replace(new, experiment_id=experiment_id, tags=tags))
    except RemoteError as error:
        server.close()
        is_inherited = environ.get("MLFLOW_TRACKING_URI") == uri
        where = "unset MLFLOW_TRACKING_URI" if is_inherited else "remove --tracking-uri"
        instead = f"or {where}, and send the run later with `proj push`"
        raise RemoteError(
            f"The run can't be opened on its tracking server: {error.message}",
            status=error.status,
            code=error.code,
            context=error.context,
            hint=f"{error.hint}; {instead}" if error.hint else instead,
        ) from error
    server.close()
    return OpenedRun(server=RemoteServer(uri, environ, patience=_PATIENCE), run=run, experiment=experiment, probe=probe)


def _ensure_default(server: RemoteServer, name: str) -> tuple[str, str]:
    """Return name and id of the default experiment; servers may refuse names, or the creation of experiments."""
    try:
        return name, ensure_experiment(server, name)
    except RemoteError as error:
        if error.is_transient or name == DEFAULT_EXPERIMENT:
            raise
        return DEFAULT_EXPERIMENT, ensure_experiment(server, DEFAULT_EXPERIMENT)


def is_own_store(database: Database, opened: OpenedRun) -> bool:
    """Return whether the server serves this store; in that case, remove the run that it created.

    The id alone is no proof, because a server can return any id; the nonce is compared.
    """
    found = _find(database, opened.run.run_id)
    if found is None or found.tags.get(PROBE_TAG) != opened.probe:
        return False
    runs.purge(database, opened.run.run_id)
    return True


def record_opened(database: Database, run_id: str, opened: OpenedRun) -> None:
    """Record that a local run is open on a server."""
    copy = sync_state.open_remote_run(database, run_id, opened.server.url)
    copy = sync_state.set_remote_ids(
        database, copy, opened.run.run_id, opened.run.experiment_id, opened.run.artifact_uri
    )
    sync_state.record_sent(database, copy, "tag", {PROBE_TAG: SentPosition("")})


def _find(database: Database, run_id: str) -> Run | None:
    try:
        return runs.get(database, run_id)
    except NotFoundError:
        return None


@final
class LiveForwarder:
    """Sends a run and its nested runs to a server until the end of the block.

    The rest is sent at the end. Data that can't be sent is reported once, is not a failure, and is left for
    ``proj sync``.
    """

    def __init__(self, to: Destination, run_id: str) -> None:
        self._notices: list[Event] = []
        self.to = structs.replace(to, report=self._note)
        """The server; its messages are shown at the end."""
        self._show = to.report
        self._run_id = run_id
        self._ended = threading.Event()
        self._failed_at: float | None = None
        self._thread = threading.Thread(target=self._follow, name="proj-live-copy", daemon=True)

    def __enter__(self) -> "LiveForwarder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ended.set()
            self._thread.join()
            if self._failed_at is None or time.monotonic() - self._failed_at > _JUST_NOW:
                self._send(whole=True)
        except Interrupted:
            self._failed_at = time.monotonic()
        finally:
            self.to.server.close()
        for event in self._notices:
            self._show(event)
        self._announce_location()

    def _follow(self) -> None:
        wait = 0.0
        while not self._ended.wait(wait):
            wait = INTERVAL if self._send(whole=False) else min(2 * max(wait, INTERVAL), _LONGEST)

    def _send(self, *, whole: bool) -> bool:
        """Send new data; return whether the server accepted it."""
        try:
            for run_id in sync_state.nested_runs(self.to.database, self._run_id):
                is_own = run_id == self._run_id
                copy = (
                    None
                    if is_own or whole
                    else sync_state.find_remote_run(self.to.database, run_id, self.to.server.url)
                )
                if copy is None or copy.waiting:
                    push(self.to, run_id, whole=whole or not is_own)
        except ProjError as error:
            self._fail(error.message, error.context)
        except Exception as error:  # noqa: BLE001  a bug of ours must not cost the result of the run
            self._fail("The run can't be sent to its server", f"{type(error).__name__}: {error}")
        else:
            self._failed_at = None
            return True
        return False

    def _fail(self, message: str, why: str | None) -> None:
        self._failed_at = time.monotonic()
        hint = f"{why + '; ' if why else ''}the run continues, and its values are kept for the server"
        self._note(Event(kind=EventKind.WARNING, message=message, hint=hint))

    def _note(self, event: Event) -> None:
        """Store an event to report it once, at the end, from the thread of the run; steps are only shown."""
        if event.kind is EventKind.STEP:
            self._show(event)
        elif event.message not in [known.message for known in self._notices]:
            self._notices.append(event)

    def _announce_location(self) -> None:
        url = self.to.server.url
        if self._failed_at is None:
            copy = sync_state.find_remote_run(self.to.database, self._run_id, url)
            self._show(Event(kind=EventKind.STEP, message=f"The run is at {copy.page if copy else url}"))
            return
        message = f"The run is not completely on {url} yet"
        self._show(Event(kind=EventKind.WARNING, message=message, hint="send the rest with `proj sync`"))
