"""The record of a run that this process itself is: opened, and closed with what can be known then."""

import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.tags import CHANGED_TREE_TAG, ENVIRONMENT_DIGEST_TAG, NOTEBOOK_TAG
from runner.collectors import run_guarded
from runner.environments.backends.local import record_of_process
from runner.interactive import notebook_code
from runner.interactive.mlflow_client import lead_client, release_client
from runner.interactive.own_plan import ProcessRequest, plan_process
from runner.interactive.reading import enter_home, log_event
from runner.model import Event, EventKind, RunStatus
from runner.open_run import open_recorder
from runner.plan_record import declared_record
from runner.process import Interrupted, Outcome
from runner.provenance.failures import find_failure
from runner.provenance.machine import describe_machine
from runner.record import Ending
from runner.server.run.socket import REMOVED_VARIABLES, ChildSocket
from runner.source.snapshot import current_tree
from runner.store import artifact_digests, artifacts, lost_runs
from runner.store.database import Database
from runner.store.disk import keep_reserve

if TYPE_CHECKING:
    from runner.sync import proxy
else:
    proxy = LazyModule("runner.sync.proxy")

FOLDER = "code"
"""The folder of the artifacts with the code of a notebook."""
_MAX_REASON = 500
_MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024


class ProcessRecord:
    """An open record, the server for the client of MLflow, and the variables that lead to it."""

    def __init__(self, asked: ProcessRequest) -> None:
        self.home = enter_home(writing=True)
        plan = plan_process(asked, self.home, log_event)
        self._clock, self._usage = time.monotonic(), _usage()
        self._started_at = time.time_ns() // 1_000_000
        with ExitStack() as opening:
            self.database = Database.open(self.home.database)
            opening.callback(self.database.close)
            lost_runs.mark_lost(self.database)
            keep_reserve(self.home)
            self.recorder = open_recorder(plan, self.database, log_event)
            try:
                self._describe()
                if self.recorder.live is not None:
                    opening.enter_context(self.recorder.live)
                self._socket = self._open_socket()
            except BaseException as error:
                self.recorder.fail(error)
                raise
            self._open = opening.pop_all()
        self._variables = _Variables(
            {
                **dict.fromkeys((*REMOVED_VARIABLES, "PROJ_METRICS")),
                **self._socket.variables(),
                "PROJ_RUN_ID": self.recorder.run_id,
            }
        )
        lead_client(self.recorder.run_id, self._socket.uri, self.recorder.report)

    def close(self, ending: Ending, failed_at: str | None = None) -> None:
        """Record the end; what can't be collected is a warning on the record."""
        recorder = self.recorder
        release_client(recorder.run_id, ending.status.value, recorder.report)
        self._variables.restore()
        self._socket.__exit__(None, None, None)
        claimed = self._socket.final_status
        if ending.status is RunStatus.FINISHED and claimed in (RunStatus.FAILED, RunStatus.KILLED):
            reason = f"the program set the status of its run to {claimed.value}"
            ending = Ending(status=claimed, exit_code=0, reason=reason)
        recorder.record_exit(ending, self._outcome(ending))
        if failed_at is not None:
            recorder.add(failed_at=recorder.plan.masker.text(failed_at))
        run_guarded(recorder, "The code of the notebook", self.keep_notebook)
        run_guarded(recorder, "The check of the project folder", self._check_tree)
        run_guarded(recorder, "The digests of the artifacts", self._record_digests)
        recorder.close(ending)
        self._open.close()

    def keep_notebook(self) -> None:
        """Keep the executed cells and the saved file of a notebook as artifacts, with secrets masked."""
        cells, file = notebook_code.executed_cells(), notebook_code.notebook_file()
        kept = {} if cells is None else {notebook_code.HISTORY: cells}
        if cells is not None and file is not None:
            kept[file.name] = file.read_text(encoding="utf-8", errors="replace")
        root, masker = self.home.artifacts(self.recorder.run_id), self.recorder.plan.masker
        for name, text in kept.items():
            artifacts.write_artifact(root, f"{FOLDER}/{name}", [masker.text(text).encode("utf-8", "replace")])
        if kept:
            self.recorder.set_tags({NOTEBOOK_TAG: "; ".join(f"{FOLDER}/{name}" for name in kept)})

    def find_failure(self, error: BaseException) -> str | None:
        """Return the place of an error in the project's code, or in a cell of the notebook, with its message."""
        source = self.recorder.plan.source
        frames = traceback.extract_tb(error.__traceback__)
        message = f"{type(error).__name__}: {error}"[:_MAX_REASON]
        for frame in reversed(frames):
            number = notebook_code.cell_number(frame.filename)
            if number is not None:
                return f"In [{number}], line {frame.lineno} '{(frame.line or '').strip()}': {message}"
        if source.root is None or source.project is None:
            return None
        return find_failure("".join(traceback.format_exception(error)), source.project, source.root)

    def _describe(self) -> None:
        recorder = self.recorder
        recorder.record_plan()
        environment = declared_record(recorder.plan, record_of_process())
        recorder.add(environment=environment, machine=describe_machine(os.environ), cwd=str(Path.cwd()), log=None)
        recorder.set_tags({ENVIRONMENT_DIGEST_TAG: environment.digest})
        run_guarded(recorder, "The code of the notebook", self.keep_notebook)

    def _open_socket(self) -> ChildSocket:
        recorder = self.recorder
        # MLflow's protocol can't move a run to another experiment while the program has it open.
        socket = ChildSocket(
            self.home, recorder.run_id, recorder.experiment_id, recorder.report, experiment_is_fixed=True
        )
        if recorder.live is not None:
            socket.upstream = proxy.TrackingServer(recorder.live.to, recorder.run_id)
        return socket.__enter__()

    def _outcome(self, ending: Ending) -> Outcome:
        user, system, memory = _usage()
        return Outcome(
            exit_code=ending.exit_code,
            started_at=self._started_at,
            ended_at=time.time_ns() // 1_000_000,
            wall_seconds=time.monotonic() - self._clock,
            user_seconds=user - self._usage[0],
            system_seconds=system - self._usage[1],
            peak_memory=memory,
        )

    def _check_tree(self) -> None:
        plan = self.recorder.plan
        if current_tree(plan.source, plan.home) != plan.code.tree:
            self.recorder.set_tags({CHANGED_TREE_TAG: "true"})
            message = "files of the project folder changed during the run"
            self.recorder.report(Event(kind=EventKind.NOTICE, message=message))

    def _record_digests(self) -> None:
        root = self.home.artifacts(self.recorder.run_id)
        if root.is_dir():
            artifact_digests.record(self.database, self.recorder.run_id, root)


def ending_of(error: BaseException | None) -> Ending:
    """Return how a run ended whose block, or whose program, an exception left; None is the usual end."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return Ending(status=RunStatus.FINISHED, exit_code=0)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
        return Ending(status=RunStatus.FAILED, exit_code=code & 0xFF, reason=f"the program ended with {error.code!r}")
    if isinstance(error, KeyboardInterrupt):
        number = error.signal if isinstance(error, Interrupted) else 2
        name = error.signal.name if isinstance(error, Interrupted) else "SIGINT"
        return Ending(status=RunStatus.KILLED, exit_code=128 + number, reason=f"stopped by {name}")
    reason = f"{type(error).__name__}: {error}"[:_MAX_REASON]
    return Ending(status=RunStatus.FAILED, exit_code=1, reason=reason)


class _Variables:
    """Variables of this process that are set until `restore`; None removes one."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._ours = values
        self._before = {name: os.environ.get(name) for name in values}
        _set(values)

    def restore(self) -> None:
        """Set the former values, except of variables that the program has changed meanwhile."""
        _set({name: old for name, old in self._before.items() if os.environ.get(name) == self._ours[name]})


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _usage() -> tuple[float, float, int]:
    """Return processor times of this process in seconds, user's and system's, and its peak memory in bytes."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime, found.ru_stime, found.ru_maxrss * _MEMORY_UNIT
