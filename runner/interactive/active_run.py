"""A run that a program or a notebook opens by itself, and the values that it logs."""

import os
import time
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import final

import msgspec

from runner.base.masking import STARS, is_secret
from runner.errors import NotFoundError, UsageError
from runner.interactive.own_plan import ProcessRequest
from runner.interactive.process_end import OPEN_RUNS
from runner.interactive.process_record import ProcessRecord, ending_of
from runner.interactive.reading import LOG, enter_home, open_reader
from runner.interactive.runs import Run, run_of
from runner.model import Event, EventKind, Parameter, RunStatus
from runner.record import Ending
from runner.settings import Home
from runner.store import artifacts, lost_runs, values
from runner.store.artifact_paths import names_of
from runner.store.database import Database
from runner.store.entities import Metric

_STATUSES = {one.value: one for one in (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)}
_PIECE = 1 << 20
_PATIENCE = 30.0
"""Seconds for the answer of the run's own server."""


@final
class ActiveRun:
    """The run of this process, from `runner.start_run` on; end it with `end`, or use it in a ``with`` block.

    Values can be logged from all threads, and from forks. Only the process that opened the run ends it.
    """

    def __init__(self, run_id: str, home: Home, record: ProcessRecord | None) -> None:
        self.run_id = run_id
        self._home = home
        self._record = record
        self._pid = os.getpid()
        self._is_over = False
        self._stores: dict[int, Database] = {} if record is None else {self._pid: record.database}

    @property
    def record(self) -> Run:
        """The run as it is recorded now."""
        with open_reader("") as reader:
            return run_of(reader.record(self.run_id))

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Log a point of a metric.

        Raises:
            InvalidValueError: the name or the value is not valid.
            UsageError: the run has ended.
        """
        self.log_metrics({name: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log a point of several metrics.

        Raises:
            InvalidValueError: a name or a value is not valid.
            UsageError: the run has ended.
        """
        now = time.time_ns() // 1_000_000
        points = [Metric(key=name, value=float(value), timestamp=now, step=step) for name, value in metrics.items()]
        values.log_metrics(self._open_store(), self.run_id, points)

    def log_param(self, name: str, value: object) -> None:
        """Log a parameter; a secret is recorded as ``***``.

        Raises:
            InvalidValueError: the name is not valid, or the parameter has another value already.
            UsageError: the run has ended.
        """
        self.log_params({name: value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log several parameters.

        Raises:
            InvalidValueError: a name is not valid, or a parameter has another value already.
            UsageError: the run has ended.
        """
        words = [Parameter(name=name, value=str(value)) for name, value in params.items()]
        stored = [(one.name, STARS if is_secret(one) else one.value) for one in words]
        values.log_params(self._open_store(), self.run_id, stored)

    def log_artifact(self, path: str | os.PathLike[str], artifact_path: str = "") -> None:
        """Keep a copy of a file, or of a folder with all files in it, in the folder ``artifact_path`` of the artifacts.

        Raises:
            NotFoundError: there is no such file or folder.
            InvalidValueError: a name is not valid.
            UsageError: the run has ended.
        """
        self._open_store()
        source, root = Path(path), self._home.artifacts(self.run_id)
        above = names_of(artifact_path) if artifact_path else ()
        if source.is_dir():
            name = source.resolve().name
            files: Iterable[tuple[Path, tuple[str, ...]]] = (
                (one, (name, *one.relative_to(source).parts)) for one in sorted(source.rglob("*")) if one.is_file()
            )
        elif source.is_file():
            files = ((source, (source.name,)),)
        else:
            raise NotFoundError(f"There is no file or folder '{source}'")
        for file, names in files:
            with file.open("rb") as opened:
                artifacts.write_file(root, (*above, *names), iter(partial(opened.read, _PIECE), b""))

    def set_tag(self, name: str, value: object) -> None:
        """Set a tag.

        Raises:
            InvalidValueError: the name is not valid.
            UsageError: the run has ended.
        """
        values.set_tags(self._open_store(), self.run_id, {name: str(value)})

    def end(self, status: str = "FINISHED") -> None:
        """End the run, and the runs that were opened inside it; the second call and a fork do nothing.

        Args:
            status: FINISHED, FAILED or KILLED.

        Raises:
            UsageError: there is no such status.
        """
        chosen = _STATUSES.get(status.upper())
        if chosen is None:
            raise UsageError(f"'{status}' is no status of an ended run", hint=f"use {', '.join(_STATUSES)}")
        exit_code = 0 if chosen is RunStatus.FINISHED else 1
        reason = None if chosen is RunStatus.FINISHED else f"the program set the status of its run to {chosen.value}"
        self._end(Ending(status=chosen, exit_code=exit_code, reason=reason), None)

    def end_with_process(self, error: BaseException | None) -> None:
        """End the run because the process ends; ``error`` is the uncaught exception, if there was one."""
        if error is None and self._record is not None:
            message = "the program ended without end() of its run, so how it ended is not known for sure"
            self._record.recorder.report(Event(kind=EventKind.NOTICE, message=message))
        self._end(ending_of(error), error)

    def __enter__(self) -> "ActiveRun":
        """Return the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run: FAILED after an exception, KILLED after an interruption, else FINISHED."""
        self._end(ending_of(error), error)

    def __repr__(self) -> str:
        """Return id and state."""
        return f"<ActiveRun {self.run_id[:8]} {'ended' if self._is_over else 'open'}>"

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks."""
        return self.record._repr_html_()

    def _end(self, ending: Ending, error: BaseException | None) -> None:
        if self._pid != os.getpid():
            LOG.info("run %s is ended by the process that opened it, not by a fork", self.run_id[:8])
            return
        if self._is_over:
            return
        for inner in OPEN_RUNS.inside(self):
            inner.end_with_process(error)
        self._is_over = True
        OPEN_RUNS.remove(self)
        if self._record is not None:
            is_failed = ending.status is RunStatus.FAILED
            place = self._record.find_failure(error) if error is not None and is_failed else None
            self._record.close(ending, place)
        elif ending.status is not RunStatus.FINISHED:
            _claim_status(self.run_id, ending.status)
        self._stores.clear()

    def _open_store(self) -> Database:
        if self._is_over:
            raise UsageError(f"the run {self.run_id[:8]} has ended", hint="open another one: runner.start_run()")
        OPEN_RUNS.note_activity()
        return self._store()

    def _store(self) -> Database:
        """Return the database; SQLite's connections must not be used in a fork, so each process has its own."""
        pid = os.getpid()
        if pid not in self._stores:
            self._stores[pid] = Database.open(self._home.database)
        return self._stores[pid]


def _claim_status(run_id: str, status: RunStatus) -> None:
    """Tell the server of the run that the program sets its status, as a client of MLflow does."""
    body = msgspec.json.encode({"run_id": run_id, "status": status.value, "end_time": time.time_ns() // 1_000_000})
    request = urllib.request.Request(  # noqa: S310  the address of our own server
        f"{os.environ.get('MLFLOW_TRACKING_URI', '')}/api/2.0/mlflow/runs/update",
        data=body,
        headers={
            "Authorization": f"Bearer {os.environ.get('MLFLOW_TRACKING_TOKEN', '')}",
            "Content-Type": "application/json",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:  # the exit code of the program still decides
        LOG.warning("the status %s of run %s could not be recorded: %s", status.value, run_id[:8], error)


_attached: set[str] = set()
"""The runs to which this process, as the command of a run, has attached itself."""


def start_run(asked: ProcessRequest) -> ActiveRun:
    """Open a run, or return the run whose command this process is, once.

    Raises:
        ProjError: the run can't be recorded.
    """
    attached = _run_of_command()
    if attached is not None:
        return attached
    record = ProcessRecord(asked)
    run = ActiveRun(record.recorder.run_id, record.home, record)
    OPEN_RUNS.add(run)
    return run


def _run_of_command() -> ActiveRun | None:
    """Return the run that `proj run` has opened for this process; None if there is none or it was returned before."""
    run_id = os.environ.get("PROJ_RUN_ID", "")
    home = enter_home()
    is_command = os.environ.get("PROJ_METRICS") == str(home.run(run_id) / "metrics.txt") if run_id else False
    if not is_command or run_id in _attached:
        return None
    with closing(Database.open(home.database)) as database:
        try:
            is_over = lost_runs.is_over(database, run_id)
        except NotFoundError:
            return None
    if is_over:
        return None
    _attached.add(run_id)
    return ActiveRun(run_id, home, None)
