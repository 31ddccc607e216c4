"""Writes the record of a run while it is open."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.base.lazy import LazyModule
from runner.errors import ProjError, StoreError
from runner.model import Event, EventKind, Report, RunDetails, RunRecord, RunStatus
from runner.plan import Plan
from runner.process import Interrupted, Outcome
from runner.source.snapshot import keep_snapshot
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, Run
from runner.store.records import read_record
from runner.store.reserve import release_reserve
from runner.urls import without_credentials

if TYPE_CHECKING:
    from runner.sync import live, push
else:
    live = LazyModule("runner.sync.live")
    push = LazyModule("runner.sync.push")

_END_OF_LOG = 64 * 1024
REFUSED = 1
"""Exit code of proj's own refusals."""
MOST_NOTICES = 200
"""Notices that one record keeps, as each is written with the whole record; of warnings there may be as many more."""
MAX_NOTICE = 4_000
"""Characters of one notice that the record keeps."""
MAX_TAG = 5_000
"""Characters of a tag of proj's own: the store takes more, older MLflow servers do not."""
_LIST = "; "
"""Separates the entries of a tag that is a list."""
_WRITE_FAULTS = (StoreError, sqlite3.Error, OSError)


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


class RunRecorder:
    """Writes the record of a run while it is open, each fact at once.

    Once `record_exit` has been called, the outcome of the command is final: what goes wrong afterwards is a warning on
    the record, never another status or exit code.
    """

    def __init__(self, plan: Plan, database: Database, run: Run, show: Report, server: "live.OpenedRun | None") -> None:
        self.plan = plan
        self.database = database
        self.run_id = run.run_id
        self.experiment_id = run.experiment_id
        self.folder = plan.home.run(run.run_id)
        """Where files are kept with the run: log, lock, artifacts."""
        self.live: live.LiveForwarder | None = None
        """What keeps the run's tracking server up to date, where it has one."""
        self._details = RunDetails()
        self._show = show
        self._ending: Ending | None = None
        self._exit_code = REFUSED
        self._error: ProjError | None = None
        if server is not None:
            to = push.Destination(database=database, home=plan.home, server=server.server, report=self.report)
            self.live = live.LiveForwarder(to, run.run_id)

    def record_plan(self) -> None:
        """Record what is planned, and keep its snapshot."""
        plan = self.plan
        keep_snapshot(plan.snapshot, self.run_id, plan.home)
        self.add(
            project=plan.source.name,
            entry_point=plan.entry_point.name,
            command=plan.recorded_command,
            code=plan.code,
            parameters=plan.masker.records(plan.parameters),
            log=str(plan.home.log(self.run_id)),
            repairs=tuple(map(plan.masker.text, plan.repairs)),
            notices=(*map(plan.masker.text, plan.notices), *self._details.notices),
        )

    @property
    def metrics_log(self) -> Path:
        """The file to which the command may append metrics."""
        return self.folder / "metrics.txt"

    @property
    def redirects_log(self) -> Path:
        """The file in which the command notes which tracking places of its code became the run."""
        return self.folder / "redirects.jsonl"

    def report(self, event: Event) -> None:
        """Pass an event on to the user, and keep what the reader of the record should know as well.

        Neither a closed screen nor a full disk makes this fail: a notice that can't be written now is written with the
        next fact.
        """
        event = structs.replace(event, message=self.plan.masker.text(without_credentials(event.message)))
        with suppress(OSError, ValueError):  # nobody may be there to be told
            self._show(event)
        known = self._details.notices
        most = MOST_NOTICES if event.kind is EventKind.NOTICE else 2 * MOST_NOTICES
        if event.kind is EventKind.STEP or event.message in known or len(known) > most:
            return
        message = event.message[:MAX_NOTICE] if len(known) < most else "more notices than these were not kept"
        self._details = structs.replace(self._details, notices=(*known, message))
        with suppress(*_WRITE_FAULTS):
            runs.set_details(self.database, self.run_id, self._details)

    def report_some(self, notices: Sequence[str], most: int) -> None:
        """Report notices of one sort, of which there may be thousands; those beyond ``most`` are only counted."""
        for notice in shortened(notices, most):
            self.report(Event(kind=EventKind.NOTICE, message=notice))

    def add(self, **facts: object) -> None:
        """Add facts to the details of the run.

        Raises:
            StoreError: they can't be written; the record stays as it was.
        """
        details = structs.replace(self._details, **facts)
        runs.set_details(self.database, self.run_id, details)
        self._details = details

    def add_redirects(self, redirects: Sequence[str]) -> None:
        """Record where the code would log, in words, and this run is instead."""
        known = (*self._details.redirects, *redirects)
        self.add(redirects=known)
        self.set_tags({"proj.redirects": _LIST.join(known)})

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set the tags that have a value; a value that is longer than a tag may be is shortened."""
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
        """Return the last of what the command printed."""
        return end_of_log(self.plan.home.log(self.run_id))

    def record_exit(self, ending: Ending, outcome: Outcome) -> None:
        """Record how the command ended before anything is done with what it made.

        From here on the result is safe: if proj is killed or the machine stops, the next command takes the status of
        the run from what is written here.
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
                runs.update(self.database, self.run_id, ended_at=outcome.ended_at)

        self._write_surely(write)

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

        if not self._write_surely(write, is_last=False):
            self._write_surely(write_status)

    def fail(self, error: BaseException) -> None:
        """Close the record of a run that proj itself could not bring to its end.

        Where the command had ended before, its outcome stays, with a warning. `outcome` tells a fault meant for the
        user; whoever passes another one on has it raised after this.
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
            reason = f"a fault of proj itself: {type(error).__name__}: {error}"
            self.close(Ending(status=RunStatus.FAILED, exit_code=REFUSED, reason=reason))

    @property
    def has_exit(self) -> bool:
        """Whether the command has ended, so that its outcome is final."""
        return self._ending is not None

    def outcome(self) -> RunOutcome:
        """Return the record as it was closed."""
        record = read_record(self.database, self.run_id, self.plan.home)
        return RunOutcome(record=record, exit_code=self._exit_code, error=self._error)

    def _close_after(self, ending: Ending, error: BaseException) -> None:
        """Close the record of a command that had ended when ``error`` came."""
        if isinstance(error, Interrupted):
            told = f"stopped by {error.signal.name} while results were collected: some of them may be missing"
            self.report(Event(kind=EventKind.WARNING, message=told))
            self.close(ending)
            # The record is of the command; the caller is told that proj was stopped.
            self._exit_code = ending.exit_code or error.exit_code
            return
        self.report(fault_event("what the run made", error))
        self.close(ending)

    def _masked(self, text: str | None) -> str | None:
        return None if text is None else self.plan.masker.text(text)

    def _write_surely(self, write: Callable[[], None], *, is_last: bool = True) -> bool:
        """Write what must not be lost, on a full disk at the cost of the reserve; say whether it is written.

        Where it is not, and ``is_last``, the user is warned.
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
            told = f"The outcome of the run can't be recorded: {fault}"
            self.report(Event(kind=EventKind.WARNING, message=told, hint=getattr(fault, "hint", None)))
        return False


def shortened(notices: Sequence[str], most: int) -> tuple[str, ...]:
    """Return notices, and instead of those beyond ``most`` their number."""
    more = (f"and {len(notices) - most} more like these",) if len(notices) > most else ()
    return (*notices[:most], *more)


def shorten_tag(value: str) -> str:
    """Return the value of a tag; of a list that is too long the first entries, and a word that there are more."""
    if len(value) <= MAX_TAG:
        return value
    kept = value[: MAX_TAG - len(_LIST) - 1]
    head, separator, _ = kept.rpartition(_LIST)
    return f"{head}{_LIST}…" if separator else f"{kept}…"


def end_of_log(log: Path) -> str:
    """Return the last of what a command printed, as far as that can be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END_OF_LOG))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def fault_event(what: str, error: BaseException) -> Event:
    """Return the warning that something of a finished run could not be recorded.

    Of a fault of proj itself the traceback goes to the log named ``proj``, which shows it on stderr by default.
    """
    if isinstance(error, ProjError):
        why = " ".join(part for part in (error.message, error.context) if part)
        return Event(kind=EventKind.WARNING, message=f"{what} could not be recorded: {why}", hint=error.hint)
    if isinstance(error, OSError | ValueError):
        return Event(kind=EventKind.WARNING, message=f"{what} could not be recorded: {error}")
    import logging

    logging.getLogger("proj").error("%s could not be recorded", what, exc_info=error)
    told = f"{what} could not be recorded: a fault of proj itself: {type(error).__name__}: {error}"
    return Event(kind=EventKind.WARNING, message=told, hint="Please report it with the traceback.")
