"""The record of a run while it is open."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.environments.additions import Addition
from runner.errors import ProjError
from runner.executors import remove_leftovers
from runner.lazy import LazyModule
from runner.model import (
    Event,
    EventKind,
    Report,
    RunDetails,
    RunRecord,
    RunStatus,
)
from runner.plan import Plan, tags_of, user_name
from runner.process import Interrupted, raising_signals
from runner.provenance.inputs import Watch
from runner.scripts import named_experiment
from runner.server.redirects import is_loopback
from runner.server.socket import ChildSocket
from runner.settings import is_offline, tracking_uri
from runner.source.folder import RunFolder
from runner.source.snapshot import keep_snapshot
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.owners import this_process
from runner.store.records import read_record
from runner.store.rows import now
from runner.urls import without_credentials

if TYPE_CHECKING:
    from runner.server import redaction, upstream
    from runner.store.remote import ledger, live, push
else:
    ledger = LazyModule("runner.store.remote.ledger")
    live = LazyModule("runner.store.remote.live")
    push = LazyModule("runner.store.remote.push")
    redaction = LazyModule("runner.server.redaction")
    upstream = LazyModule("runner.server.upstream")

_END_OF_LOG = 64 * 1024
REFUSED = 1
"""Exit code of proj's own refusals."""


class Ending(Struct, frozen=True, kw_only=True):
    """How a run ended; ``exit_code`` is what proj owes to its caller."""

    status: RunStatus
    exit_code: int
    reason: str | None = None


class RunOutcome(Struct, frozen=True, kw_only=True):
    """A closed record, the exit code that proj owes for it, and the fault where proj itself could not go on."""

    record: RunRecord
    exit_code: int
    error: ProjError | None = None
    missing: Addition | None = None
    """The package whose absence ended the command, if one is known to."""


class Recording:
    """The record of a run while it is open; every step adds what it learns, and it is written down at once."""

    def __init__(self, plan: Plan, database: Database, run_id: str, experiment_id: str, report: Report) -> None:
        self.plan = plan
        self.database = database
        self.run_id = run_id
        self.folder = plan.home.run(run_id)
        """Where files are kept with the run: log, lock, artifacts."""
        self.details = RunDetails()
        self.claimed_status: RunStatus | None = None
        """The status in which the script itself left the run, if it did."""
        self.opened: tuple[tuple[str, Path], ...] = ()
        """Files beside the tree that the command opened: path relative to the project folder, and the user's file."""
        self.own_address = ""
        """The ``HOST:PORT`` of the run's own server, known after the command."""
        self.was_logged_to = False
        """Whether a client connected to the run's own server."""
        self.missing: Addition | None = None
        """The package whose absence ended the command, if one is known to."""
        self.opened_there: live.Opened | None = None
        """The run on its tracking server, if it has one."""
        self._live: live.LiveCopy | None = None
        self._experiment_id = experiment_id
        self._report = report
        self._exit_code = REFUSED
        self._error: ProjError | None = None

    @property
    def metrics_log(self) -> Path:
        """The file to which the command may append metrics."""
        return self.folder / "metrics.txt"

    def report(self, event: Event) -> None:
        """Pass an event on to the user, and keep what the reader of the record should know as well."""
        event = structs.replace(event, message=self.plan.masker.text(without_credentials(event.message)))
        self._report(event)
        if event.kind is not EventKind.STEP and event.message not in self.details.notices:
            self.add(notices=(*self.details.notices, event.message))

    def add(self, **facts: object) -> None:
        """Add facts to the details of the run."""
        self.details = structs.replace(self.details, **facts)
        runs.set_details(self.database, self.run_id, self.details)

    def set_tags(self, tags: dict[str, str | None]) -> None:
        """Set the tags that have a value."""
        values.set_tags(self.database, self.run_id, {name: value for name, value in tags.items() if value is not None})

    def keep_file(self, name: str, text: str) -> None:
        """Keep a text with the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    @property
    def redirects_log(self) -> Path:
        """The file in which the command notes which tracking places of its code became the run."""
        return self.folder / "redirects.jsonl"

    def live_copy(self) -> "AbstractContextManager[live.LiveCopy | None]":
        """Return what keeps the run's tracking server up to date, where it has one."""
        if self.opened_there is None:
            return nullcontext()
        server = self.opened_there.server
        to = push.Destination(database=self.database, home=self.plan.home, server=server, report=self.report)
        self._live = live.LiveCopy(to, self.run_id)
        return self._live

    def open_socket(self) -> ChildSocket:
        """Return the socket over which the command logs to this run."""
        socket = ChildSocket(
            self.plan.home,
            self.run_id,
            self._experiment_id,
            self.report,
            # A server can't move a run to another experiment.
            experiment_is_fixed=bool(self.plan.experiment or self.plan.request.experiment_id or self.opened_there),
            serve_as=tuple(address for address in self.plan.request.serve_as if is_loopback(address)),
        )
        socket.redact = self._redact()
        if self._live is not None:
            socket.upstream = upstream.TrackingServer(self._live.to, self.run_id)
        return socket

    def _redact(self) -> Callable[[bytes], bytes] | None:
        """Return what takes secrets out of the requests of the command, None where there are none."""
        masker = self.plan.masker
        if not masker.masks:
            return None
        public = {each.name: each.value for each in masker.records(self.plan.parameters)}
        return lambda body: redaction.redact_request(body, masker, public)

    def log_metrics(self, metrics: Iterable[tuple[str, float, int]], moment: int) -> None:
        """Log metrics given as name, value and step; ``moment`` is in milliseconds since 1970."""
        mask = self.plan.masker
        points = [
            Metric(key=mask.name(name), value=nan if mask.is_number(value) else value, timestamp=moment, step=step)
            for name, value, step in metrics
        ]
        values.log_metrics(self.database, self.run_id, points)

    @contextmanager
    def watching(self, folder: RunFolder) -> Iterator[None]:
        """Note which of the files beside the tree are opened until the end of the block."""
        origins = dict(folder.provided)
        watch = Watch(tuple(origins))
        try:
            yield
        finally:
            self.opened = tuple(
                (os.path.relpath(path, folder.project), origins[path]) for path in watch.stop() if path in origins
            )

    def end_of_log(self) -> str:
        """Return the last of what the command printed."""
        try:
            with self.plan.home.log(self.run_id).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _END_OF_LOG))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def close(self, ending: Ending) -> None:
        """Close the record."""
        self._exit_code = ending.exit_code
        if ending.reason:
            self.add(reason=self.plan.masker.text(ending.reason))
        with self.database.transaction():
            runs.update(self.database, self.run_id, status=ending.status)
            runs.set_owner(self.database, self.run_id, None)

    def fail(self, error: ProjError) -> None:
        """Close the record of a run that proj itself could not bring to its end."""
        self._error = error
        mask = self.plan.masker.text
        error.message, error.context = mask(error.message), error.context and mask(error.context)
        error.args = (error.message,)
        reason = f"{error.message}\n{error.context or ''}".strip()
        self.close(Ending(status=RunStatus.FAILED, exit_code=error.exit_code, reason=reason))

    def outcome(self) -> RunOutcome:
        """Return the record as it was closed."""
        record = read_record(self.database, self.run_id, self.plan.home)
        return RunOutcome(record=record, exit_code=self._exit_code, error=self._error, missing=self.missing)


@contextmanager
def open_recording(plan: Plan, database: Database, report: Report) -> Iterator[Recording]:
    """Open the record of a run; whatever ends the block, the record is closed and says why.

    A fault meant for the user and an interruption are kept for `Recording.outcome`; anything else is our bug and
    escapes after the record is closed.
    """
    runs.mark_lost(database)
    remove_leftovers(plan.home)
    with raising_signals():
        recording = _open(plan, database, report)
        with recording.live_copy():
            try:
                yield recording
            except ProjError as error:
                recording.fail(error)
            except Interrupted as interruption:
                reason = f"stopped by {interruption.signal.name}"
                recording.close(Ending(status=RunStatus.KILLED, exit_code=interruption.exit_code, reason=reason))
            except BaseException as error:
                reason = f"a fault of proj itself: {type(error).__name__}: {error}"
                recording.close(Ending(status=RunStatus.FAILED, exit_code=REFUSED, reason=reason))
                raise


def _open(plan: Plan, database: Database, report: Report) -> Recording:
    """Open the record, on the tracking server first where there is one, so that both have the same id."""
    uri = tracking_uri(plan.request.tracking_uri)
    is_remote = uri is not None and uri.lower().startswith(("http://", "https://"))
    opened = None
    if uri is not None and is_remote and not is_offline():
        opened = _open_there(plan, database, uri, report)
    try:
        recording = _open_here(plan, database, report, opened)
    except BaseException:
        if opened is not None:
            opened.give_up()
        raise
    if uri is not None and opened is None:
        _tell_of_server(recording, uri, is_remote=is_remote)
    return recording


def _open_there(plan: Plan, database: Database, uri: str, report: Report) -> "live.Opened | None":
    # A parent that is not there yet is named when both are.
    tags = {key: value for key, value in tags_of(plan).items() if key != push.PARENT_TAG}
    new = NewRun(name=plan.recorded_name, user=user_name(), started_at=now(), tags=tags)
    experiment_id = plan.request.experiment_id
    # A server can't move a run later on to the experiment that its script sets.
    experiment = plan.experiment or named_experiment(plan.scripts)
    opened = live.open_there(uri, new, experiment=experiment, experiment_id=experiment_id)
    if live.is_own_store(database, opened):
        report(
            Event(kind=EventKind.NOTICE, message=f"{opened.server.url} serves the store that the run is recorded in")
        )
        opened.server.close()
        return None
    return opened


def _tell_of_server(recording: Recording, uri: str, *, is_remote: bool) -> None:
    """Say what becomes of a tracking URI that the run is not recorded at."""
    hint = None
    if is_remote and is_offline():
        message = "offline: the run is kept for its tracking server, and `proj sync` sends it"
        ledger.open_copy(recording.database, recording.run_id, ledger.server_name(uri))
    elif not is_remote:
        what = uri.partition(":")[0] if ":" in uri else "folder"
        message = f"The tracking URI names a {what} store; proj records in its own, and scripts log there too"
        hint = "`proj import` brings in what is there"
    else:
        return
    recording.report(Event(kind=EventKind.NOTICE, message=message, hint=hint))


def _open_here(plan: Plan, database: Database, report: Report, opened: "live.Opened | None") -> Recording:
    experiment_id = experiments.ensure(database, opened.experiment) if opened else _experiment_id(plan, database)
    with database.transaction():
        local_id = opened.local_id(database) if opened else None
        run = runs.create(database, _new_run(plan, experiment_id, opened, local_id))
        values.record_parameters(database, run.run_id, plan.masker.stored(plan.parameters))
        if opened is not None:
            live.note_opened(database, run.run_id, opened)
    recording = Recording(plan, database, run.run_id, experiment_id, report)
    recording.opened_there = opened
    keep_snapshot(plan.snapshot, run.run_id, plan.home)
    recording.add(
        project=plan.source.name,
        entry_point=plan.entry_point.name,
        command=plan.recorded_command,
        code=plan.code,
        parameters=plan.masker.records(plan.parameters),
        log=str(plan.home.log(run.run_id)),
        repairs=tuple(map(plan.masker.text, plan.repairs)),
        notices=tuple(map(plan.masker.text, plan.notices)),
    )
    return recording


def _new_run(plan: Plan, experiment_id: str, opened: "live.Opened | None", run_id: str | None) -> NewRun:
    run_id = run_id or os.urandom(16).hex()
    return NewRun(
        experiment_id=experiment_id,
        run_id=run_id,
        name=plan.recorded_name or (opened.run.name or None if opened else None),
        user=user_name(),
        started_at=opened.run.started_at if opened else None,
        artifact_uri=plan.home.artifacts(run_id).as_uri(),
        tags=tags_of(plan),
        owner=this_process(),
    )


def _experiment_id(plan: Plan, database: Database) -> str:
    if plan.request.experiment_id:
        return experiments.get(database, plan.request.experiment_id).id
    return experiments.ensure(database, plan.experiment) if plan.experiment else "0"
