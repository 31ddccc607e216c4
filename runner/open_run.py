"""Opens the record of a run, in the local store and on its tracking server, and closes it after an error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.tags import PARENT_TAG
from runner.errors import ProjError
from runner.executors import remove_orphaned_containers
from runner.model import Event, EventKind, Report
from runner.plan import Plan
from runner.plan_record import tags_of
from runner.process import Interrupted, raising_signals
from runner.record import RunRecorder
from runner.settings import is_offline, tracking_uri, user_name
from runner.store import experiments, lost_runs, runs, values
from runner.store.database import Database
from runner.store.disk import keep_reserve
from runner.store.entities import NewRun
from runner.store.process_identity import this_process
from runner.store.row_helpers import now

if TYPE_CHECKING:
    from runner.sync import live, push, sync_state
else:
    sync_state = LazyModule("runner.sync.sync_state")
    live = LazyModule("runner.sync.live")
    push = LazyModule("runner.sync.push")


@contextmanager
def open_record(plan: Plan, database: Database, report: Report) -> Iterator[RunRecorder]:
    """Open the record of a run; an exception in the block closes the record with the reason.

    A `ProjError` and an interruption are suppressed and returned by `RunRecorder.outcome`, as is every error after the
    command has ended. Any other exception is a bug of proj: it is raised again after the record is closed.
    """
    lost_runs.mark_lost(database)
    remove_orphaned_containers(plan.home)
    keep_reserve(plan.home)
    with raising_signals():
        recorder = open_recorder(plan, database, report)
        with recorder.live or nullcontext():
            try:
                yield recorder
            except BaseException as error:
                recorder.fail(error)
                if not (isinstance(error, ProjError | Interrupted) or (recorder.has_exit and _is_fault(error))):
                    raise


def _is_fault(error: BaseException) -> bool:
    """Return whether an exception is an error, not a request to end the program such as KeyboardInterrupt."""
    return isinstance(error, Exception)


def open_recorder(plan: Plan, database: Database, report: Report) -> RunRecorder:
    """Open the record, on the tracking server first if there is one, so that both have the same id."""
    uri = tracking_uri(plan.request.tracking_uri)
    is_remote = uri is not None and uri.lower().startswith(("http://", "https://"))
    opened = None
    if uri is not None and is_remote and not is_offline():
        opened = _open_on_server(plan, database, uri, report)
    try:
        recorder = _open_locally(plan, database, report, opened)
    except BaseException:
        if opened is not None:
            opened.give_up()
        raise
    if uri is not None and opened is None:
        _report_unused_server(recorder, uri, is_remote=is_remote)
    return recorder


def _open_on_server(plan: Plan, database: Database, uri: str, report: Report) -> "live.OpenedRun | None":
    # The parent run may not be on the server yet; the tag is sent later, when both runs are there.
    tags = {key: value for key, value in tags_of(plan).items() if key != PARENT_TAG}
    new = NewRun(name=plan.recorded_name, user=user_name(), started_at=now(), tags=tags)
    experiment_id = plan.request.experiment_id
    # MLflow's protocol can't move a run to another experiment, so the one that the script sets is needed now.
    opened = live.open_on_server(
        uri, new, experiment=plan.experiment, experiment_id=experiment_id, default=plan.default_experiment
    )
    if live.is_own_store(database, opened):
        message = f"{opened.server.url} serves the local store, so the run is recorded there only once"
        report(Event(kind=EventKind.NOTICE, message=message))
        opened.server.close()
        return None
    return opened


def _report_unused_server(recorder: RunRecorder, uri: str, *, is_remote: bool) -> None:
    """Report why a run is not recorded at its tracking URI."""
    hint = None
    if is_remote and is_offline():
        message = "offline: the run is recorded locally; `proj sync` sends it to the tracking server"
        sync_state.open_remote_run(recorder.database, recorder.run_id, sync_state.server_name(uri))
    elif not is_remote:
        kind = uri.partition(":")[0] if ":" in uri else "folder"
        message = f"The tracking URI names a {kind} store; the run and its script log to proj's own store instead"
        hint = "`proj import` copies the runs of that store into proj's own"
    else:
        return
    recorder.report(Event(kind=EventKind.NOTICE, message=message, hint=hint))


def _open_locally(plan: Plan, database: Database, report: Report, opened: "live.OpenedRun | None") -> RunRecorder:
    experiment_id = experiments.ensure(database, opened.experiment) if opened else _experiment_id(plan, database)
    with database.transaction():
        local_id = opened.local_id(database) if opened else None
        run = runs.create(database, _new_run(plan, experiment_id, opened, local_id))
        values.record_parameters(database, run.run_id, plan.masker.stored(plan.recorded_parameters))
        if opened is not None:
            live.record_opened(database, run.run_id, opened)
    recorder = RunRecorder(plan, database, run, report, opened)
    short = run.run_id[:8]
    message = f"run {short} ({run.name}), follow it: proj log -f {short}"
    recorder.report(Event(kind=EventKind.STEP, message=message, run_id=run.run_id))
    return recorder


def _new_run(plan: Plan, experiment_id: str, opened: "live.OpenedRun | None", run_id: str | None) -> NewRun:
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
    return experiments.ensure(database, plan.experiment or plan.default_experiment)
