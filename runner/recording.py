"""The record of a run while it is open."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, structs

from runner.errors import ProjError
from runner.executors import remove_leftovers
from runner.model import (
    Event,
    EventKind,
    Report,
    RunDetails,
    RunRecord,
    RunStatus,
)
from runner.plan import Plan, masked_parameters, parameter_records, tags_of, user_name
from runner.process import Interrupted, raising_signals
from runner.provenance.inputs import Watch
from runner.server.redirects import is_loopback
from runner.server.socket import ChildSocket
from runner.source.folder import RunFolder
from runner.source.snapshot import keep_snapshot
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.owners import this_process
from runner.store.records import read_record

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
    missing_package: str | None = None
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
        self.was_logged_to = False
        """Whether a client connected to the run's own server."""
        self.missing_package: str | None = None
        """The package whose absence ended the command, if one is known to."""
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
        event = structs.replace(event, message=self.plan.masker.text(event.message))
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

    def open_socket(self) -> ChildSocket:
        """Return the socket over which the command logs to this run."""
        return ChildSocket(
            self.plan.home,
            self.run_id,
            self._experiment_id,
            self.report,
            experiment_is_fixed=bool(self.plan.experiment or self.plan.request.experiment_id),
            serve_as=tuple(address for address in self.plan.request.serve_as if is_loopback(address)),
        )

    def log_metrics(self, metrics: Iterable[tuple[str, float, int]], moment: int) -> None:
        """Log metrics given as name, value and step; ``moment`` is in milliseconds since 1970."""
        points = [Metric(key=name, value=value, timestamp=moment, step=step) for name, value, step in metrics]
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
        reason = f"{error.message}\n{error.context or ''}".strip()
        self.close(Ending(status=RunStatus.FAILED, exit_code=error.exit_code, reason=reason))

    def outcome(self) -> RunOutcome:
        """Return the record as it was closed."""
        record = read_record(self.database, self.run_id, self.plan.home)
        return RunOutcome(
            record=record, exit_code=self._exit_code, error=self._error, missing_package=self.missing_package
        )


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
    experiment_id = _experiment_id(plan, database)
    with database.transaction():
        run = runs.create(database, _new_run(plan, experiment_id))
        values.record_parameters(database, run.run_id, masked_parameters(plan))
    recording = Recording(plan, database, run.run_id, experiment_id, report)
    keep_snapshot(plan.snapshot, run.run_id, plan.home)
    recording.add(
        project=plan.source.name,
        entry_point=plan.entry_point.name,
        command=plan.masker.command(plan.command),
        code=plan.code,
        parameters=parameter_records(plan),
        log=str(plan.home.log(run.run_id)),
        notices=plan.notices,
    )
    return recording


def _new_run(plan: Plan, experiment_id: str) -> NewRun:
    run_id = os.urandom(16).hex()
    return NewRun(
        experiment_id=experiment_id,
        run_id=run_id,
        name=plan.request.run_name,
        user=user_name(),
        artifact_uri=plan.home.artifacts(run_id).as_uri(),
        tags=tags_of(plan),
        owner=this_process(),
    )


def _experiment_id(plan: Plan, database: Database) -> str:
    if plan.request.experiment_id:
        return experiments.get(database, plan.request.experiment_id).id
    return experiments.ensure(database, plan.experiment) if plan.experiment else "0"
