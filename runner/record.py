"""Writes the record of a run while it is open."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.base.files import open_regular
from runner.base.lazy import LazyModule
from runner.base.tags import REDIRECTS_TAG
from runner.errors import ProjError, StoreError
from runner.model import Event, EventKind, Report, RunDetails, RunRecord, RunStatus
from runner.plan import Plan
from runner.plan_record import parameter_records
from runner.process import Interrupted, Outcome
from runner.source.snapshot import keep_snapshot
from runner.store import runs, values
from runner.store.database import Database
from runner.store.disk import release_reserve
from runner.store.entities import Metric, Run
from runner.store.records import read_record
from runner.urls import without_credentials

if TYPE_CHECKING:
    from runner.sync import live, push
else:
    live = LazyModule("runner.sync.live")
    push = LazyModule("runner.sync.push")

_END_OF_LOG = 64 * 1024
REFUSED = 1
"""Exit code when proj itself refuses or fails."""
MAX_NOTICES = 200
"""Notices that one record keeps; warnings have the same number in addition. Each write contains all of them."""
MAX_NOTICE_LENGTH = 4_000
"""Characters that the record keeps of one notice."""
MAX_TAG_LENGTH = 5_000
"""Characters of a tag that proj sets: the store accepts more, older MLflow servers do not."""
_LIST = "; "
"""Separates the entries of a tag that is a list."""
_WRITE_FAULTS = (StoreError, sqlite3.Error, OSError)


class Ending(Struct, frozen=True, kw_only=True):
    """How a run ended; ``exit_code`` is the one that proj returns."""

    status: RunStatus
    exit_code: int
    reason: str | None = None


class RunOutcome(Struct, frozen=True, kw_only=True):
    """A closed record, the exit code that proj returns, and the error if proj itself could not continue."""

    record: RunRecord
    exit_code: int
    error: ProjError | None = None


class RunRecorder:
    """Writes the record of a run while it is open, each fact at once.

    After `record_exit` the outcome of the command is final: a later error becomes a warning on the record and changes
    neither the status nor the exit code.
    """

    def __init__(self, plan: Plan, database: Database, run: Run, show: Report, server: "live.OpenedRun | None") -> None:
        self.plan = plan
        self.database = database
        self.run_id = run.run_id
        self.experiment_id = run.experiment_id
        self._started_at = run.started_at
        self.folder = plan.home.run(run.run_id)
        """The folder of the files kept with the run: log, lock, artifacts."""
        self.live: live.LiveForwarder | None = None
        """Forwards the run to its tracking server; None if it has no server."""
        self._details = RunDetails()
        self._show = show
        self._ending: Ending | None = None
        self._exit_code = REFUSED
        self._error: ProjError | None = None
        if server is not None:
            to = push.Destination(database=database, home=plan.home, server=server.server, report=self.report)
            self.live = live.LiveForwarder(to, run.run_id)

    def record_plan(self) -> None:
        """Record the plan, and keep its snapshot."""
        plan = self.plan
        keep_snapshot(plan.snapshot, self.run_id, plan.home)
        self.add(
            project=plan.source.name,
            entry_point=plan.entry_point.name,
            command=plan.recorded_command,
            template=plan.masker.command(plan.entry_point.command),
            code=plan.code,
            parameters=parameter_records(plan),
            log=str(plan.home.log(self.run_id)),
            repairs=tuple(map(plan.masker.text, plan.repairs)),
            notices=(*map(plan.masker.text, plan.notices), *self._details.notices),
        )

    @property
    def details(self) -> RunDetails:
        """What is recorded by now."""
        return self._details

    @property
    def metrics_log(self) -> Path:
        """The file to which the command may append metrics."""
        return self.folder / "metrics.txt"

    @property
    def redirects_log(self) -> Path:
        """The file to which the client shim writes which tracking URIs it redirected to the run."""
        return self.folder / "redirects.jsonl"

    def report(self, event: Event) -> None:
        """Pass an event on to the user, and add notices and warnings to the record.

        This fails neither when stderr is closed nor when the disk is full: a notice that can't be written now is
        written with the next fact.
        """
        event = structs.replace(event, message=self.plan.masker.text(without_credentials(event.message)))
        with suppress(OSError, ValueError):  # stderr may be closed
            self._show(event)
        known = self._details.notices
        most = MAX_NOTICES if event.kind is EventKind.NOTICE else 2 * MAX_NOTICES
        if event.kind is EventKind.STEP or event.message in known or len(known) > most:
            return
        message = event.message[:MAX_NOTICE_LENGTH] if len(known) < most else "further notices are not recorded"
        self._details = structs.replace(self._details, notices=(*known, message))
        with suppress(*_WRITE_FAULTS):
            runs.set_details(self.database, self.run_id, self._details)

    def report_some(self, notices: Sequence[str], most: int) -> None:
        """Report notices of one kind; those beyond ``most`` are only counted, as there may be thousands."""
        for notice in shortened(notices, most):
            self.report(Event(kind=EventKind.NOTICE, message=notice))

    def add(self, **facts: object) -> None:
        """Add facts to the details of the run.

        Raises:
            StoreError: the facts can't be written; the record stays as it was.
        """
        details = structs.replace(self._details, **facts)
        runs.set_details(self.database, self.run_id, details)
        self._details = details

    def add_redirects(self, redirects: Sequence[str]) -> None:
        """Record descriptions of the tracking URIs that were redirected to this run."""
        known = (*self._details.redirects, *redirects)
        self.add(redirects=known)
        self.set_tags({REDIRECTS_TAG: _LIST.join(known)})

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set the tags that have a value; a value that is too long for a tag is shortened."""
        known = {name: shorten_tag(value) for name, value in tags.items() if value is not None}
        values.set_tags(self.database, self.run_id, known)

    def log_metrics(self, metrics: Iterable[Metric]) -> None:
        """Log points of metrics."""
        values.log_metrics(self.database, self.run_id, metrics)

    def keep_file(self, name: str, text: str) -> None:
        """Keep a text with the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def end_of_log(self) -> str:
        """Return the last part of the command's output."""
        return log_tail(self.plan.home.log(self.run_id))

    def record_exit(self, ending: Ending, outcome: Outcome) -> None:
        """Record how the command ended, before its results are collected.

        This makes the outcome durable: if proj is killed or the machine stops afterwards, the next command takes the
        status of the run from here.
        """
        self._ending = ending
        self._details = structs.replace(
            self._details,
            exit_code=outcome.exit_code,
            reason=self._masked(ending.reason),
            resources=outcome.resources,
            command_status=ending.status,
        )

        def write() -> None:
            with self.database.transaction():
                runs.set_details(self.database, self.run_id, self._details)
                # The clock may have been set back since the start.
                runs.update(self.database, self.run_id, ended_at=max(self._started_at, outcome.ended_at))

        self._write_with_reserve(write)

    def close(self, ending: Ending) -> None:
        """Close the record."""
        self._exit_code = ending.exit_code
        self._details = structs.replace(self._details, reason=self._masked(ending.reason))

        def write_status() -> None:
            with self.database.transaction():
                runs.update(self.database, self.run_id, status=ending.status)
                runs.set_owner(self.database, self.run_id, None)

        def write() -> None:
            with self.database.transaction():
                runs.set_details(self.database, self.run_id, self._details)
                write_status()

        if not self._write_with_reserve(write, is_last=False):
            self._write_with_reserve(write_status)

    def fail(self, error: BaseException) -> None:
        """Close the record of a run that an error or a signal interrupted.

        If the command had already ended, its outcome stays and the error becomes a warning. A `ProjError` is returned
        by `outcome`; the caller raises any other error after this.
        """
        if self._ending is not None:
            self._close_after(self._ending, error)
        elif isinstance(error, ProjError):
            self._error = error
            mask = self.plan.masker.text
            error.message, error.context = mask(error.message), error.context and mask(error.context)
            error.args = (error.message,)
            reason = f"{error.message}\n{error.context or ''}".strip()
            self.close(Ending(status=RunStatus.FAILED, exit_code=error.exit_code, reason=reason))
        elif isinstance(error, Interrupted):
            reason = f"stopped by {error.signal.name}"
            self.close(Ending(status=RunStatus.KILLED, exit_code=error.exit_code, reason=reason))
        else:
            reason = f"an internal error of proj: {type(error).__name__}: {error}"
            self.close(Ending(status=RunStatus.FAILED, exit_code=REFUSED, reason=reason))

    @property
    def has_exit(self) -> bool:
        """Whether the command has ended, so that its outcome is final."""
        return self._ending is not None

    def outcome(self) -> RunOutcome:
        """Return the closed record."""
        record = read_record(self.database, self.run_id, self.plan.home)
        return RunOutcome(record=record, exit_code=self._exit_code, error=self._error)

    def _close_after(self, ending: Ending, error: BaseException) -> None:
        """Close the record of a command that had already ended when ``error`` occurred."""
        if isinstance(error, Interrupted):
            message = f"stopped by {error.signal.name} while results were collected: some of them may be missing"
            self.report(Event(kind=EventKind.WARNING, message=message))
            self.close(ending)
            # The record keeps the command's exit code; the caller learns from the signal's code that proj was stopped.
            self._exit_code = ending.exit_code or error.exit_code
            return
        self.report(fault_event("The results of the run", error))
        self.close(ending)

    def _masked(self, text: str | None) -> str | None:
        return None if text is None else self.plan.masker.text(text)

    def _write_with_reserve(self, write: Callable[[], None], *, is_last: bool = True) -> bool:
        """Write facts that must not be lost; if the disk is full, delete the reserve file and try again.

        Returns whether the write succeeded. If it failed and ``is_last`` is set, the user gets a warning.
        """
        try:
            write()
        except _WRITE_FAULTS as error:
            fault: Exception = error
        else:
            return True
        if release_reserve(self.plan.home):
            try:
                write()
            except _WRITE_FAULTS as error:
                fault = error
            else:
                return True
        if is_last:
            message = f"The outcome of the run can't be recorded: {fault}"
            self.report(Event(kind=EventKind.WARNING, message=message, hint=getattr(fault, "hint", None)))
        return False


def shortened(notices: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the first ``most`` notices and, if there are more, a last one with the number of the others."""
    more = (f"and {len(notices) - most} more like these",) if len(notices) > most else ()
    return (*notices[:most], *more)


def shorten_tag(value: str) -> str:
    """Return the value of a tag; a list that is too long is cut after an entry and ends with an ellipsis."""
    if len(value) <= MAX_TAG_LENGTH:
        return value
    kept = value[: MAX_TAG_LENGTH - len(_LIST) - 1]
    head, separator, _ = kept.rpartition(_LIST)
    return f"{head}{_LIST}…" if separator else f"{kept}…"


def log_tail(log: Path) -> str:
    """Return the last 64 KiB of a log; empty if it can't be read."""
    try:
        with open_regular(log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END_OF_LOG))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def fault_event(what: str, error: BaseException) -> Event:
    """Return the warning that ``what`` could not be recorded after the command ended.

    The traceback of an internal error goes to the logger ``proj``, which prints it on stderr by default.
    """
    if isinstance(error, ProjError):
        why = " ".join(part for part in (error.message, error.context) if part)
        return Event(kind=EventKind.WARNING, message=f"{what} could not be recorded: {why}", hint=error.hint)
    if isinstance(error, OSError | ValueError):
        return Event(kind=EventKind.WARNING, message=f"{what} could not be recorded: {error}")
    import logging

    logging.getLogger("proj").error("%s could not be recorded", what, exc_info=error)
    message = f"{what} could not be recorded: an internal error of proj: {type(error).__name__}: {error}"
    return Event(kind=EventKind.WARNING, message=message, hint="Please report this with the traceback.")
