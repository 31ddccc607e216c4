"""Copies a run to a server; skips content already sent and continues an interrupted push.

The sync state records the sent content. A run is created on the server only once: the intention is recorded before the
request, and the new run has the local id in a tag, by which it is found again if the response is lost.
"""

import re
from collections.abc import Mapping
from itertools import count

import msgspec
from msgspec import Struct

from runner.base.locks import locked
from runner.base.tags import PARENT_TAG, RUN_ID_TAG, RUN_NAME_TAG, USER_TAG
from runner.errors import NotFoundError, RemoteError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.artifacts import local_folder, open_found, write_file
from runner.store.database import Database
from runner.store.entities import LifecycleStage, Metric, NewRun, Run
from runner.store.records import make_record
from runner.store.rules import MAX_BATCH
from runner.store.values import params
from runner.sync import bundle_records, points, sync_state
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.code import send_code
from runner.sync.files import LocalFile, local_files, send_files
from runner.sync.logged_models import points_by_model, send_inputs, send_models
from runner.sync.points import Batch
from runner.sync.push_context import Counts, PushContext, as_json, is_refusal
from runner.sync.same_id import deleted_there, run_of_same_id
from runner.sync.sync_state import RemoteRun

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
_LONG = 20
"""Number of requests with points after which a progress message is shown."""


class Pushed(Struct, frozen=True, kw_only=True):
    """The result of a push."""

    run_id: str
    server: str
    remote_run_id: str
    url: str
    sent: Counts
    left_out: tuple[str, ...] = ()
    files_left_out: tuple[str, ...] = ()
    """The files among the items that the server does not have."""


class Destination(Struct, frozen=True, kw_only=True):
    """The store and the server of a push, and the event callback."""

    database: Database
    home: Home
    server: RemoteServer
    report: Report
    code: bool | None = False
    """Whether the code of runs is sent, too; None sends it to a `proj server` only."""


def push(to: Destination, run_id: str, *, whole: bool = True, files: bool = False) -> Pushed:
    """Push a run, or its new content, to a server.

    Args:
        to: the server and the store.
        run_id: the local run id.
        whole: whether to send everything; otherwise, for a running run, only final values are sent.
        files: whether to send the current files of a running run.

    Raises:
        NotFoundError: there is no such run.
        RemoteError: the server can't be reached, or refuses the run; the sync state keeps the content sent so far.
    """
    with locked(to.home.run(run_id) / "push.lock"):
        run = runs.get(to.database, run_id)
        copy = _known_copy(to, run_id)
        sync_state.set_waiting(to.database, copy, waiting=True)
        context = PushContext(
            database=to.database,
            home=to.home,
            server=to.server,
            report=to.report,
            copy=copy if copy.remote_run_id else _open(to, run, copy),
            whole=whole and run.status.is_over,
            files=files or (whole and run.status.is_over),
            left_out=[],
            files_left_out=[],
        )
        _send(context, run, with_code=to.code if to.code is not None else to.server.is_proj())
        if context.whole:
            sync_state.set_waiting(to.database, copy, waiting=False)
    return Pushed(
        run_id=run_id,
        server=to.server.url,
        remote_run_id=context.remote_run_id,
        url=context.copy.page,
        sent=context.counts,
        left_out=tuple(context.left_out),
        files_left_out=tuple(context.files_left_out),
    )


def _known_copy(to: Destination, run_id: str) -> RemoteRun:
    """Return the state of a run on the server, where it may have been removed."""
    copy = sync_state.open_remote_run(to.database, run_id, to.server.url)
    if copy.remote_run_id is None or copy.waiting:
        return copy
    try:
        stage = to.server.run(copy.remote_run_id).lifecycle_stage
    except RemoteError as error:
        if not error.is_absent:
            raise
        message = f"{to.server.url} no longer has the run {run_id[:8]}; it is sent again"
        to.report(Event(kind=EventKind.NOTICE, message=message))
        sync_state.remove_remote_run(to.database, copy)
        return sync_state.open_remote_run(to.database, run_id, to.server.url)
    if stage is not LifecycleStage.ACTIVE:
        raise deleted_there(to.server, run_id)
    return copy


def ensure_experiment(server: RemoteServer, name: str) -> str:
    """Return the id of the experiment with a name on a server; create the experiment if it does not exist.

    Raises:
        RemoteError: the experiment is deleted on the server, or can't be created.
    """
    found = server.experiment_by_name(name)
    if found is None:
        try:
            return server.create_experiment(name)
        except RemoteError as error:
            # Another client created it in the meantime, or the response to the first request was lost.
            found = server.experiment_by_name(name) if error.status in (0, 400, 409) else None
            if found is None:
                raise
    if found.lifecycle_stage is not LifecycleStage.ACTIVE:
        hint = "restore it there, or rename the local experiment"
        raise RemoteError(f"The experiment '{name}' is deleted on {server.url}", status=400, hint=hint)
    return found.id


def _open(to: Destination, run: Run, copy: RemoteRun) -> RemoteRun:
    """Find the run on the server, or create it."""
    found = run_of_same_id(to.database, to.server, run, copy)
    if found is None:
        experiment_id = ensure_experiment(to.server, experiments.get(to.database, run.experiment_id).name)
        wanted = f"tags.`{RUN_ID_TAG}` = '{run.run_id}'"
        found = next(to.server.search_runs([experiment_id], wanted, limit=1), None) or _create(
            to, run, copy, experiment_id
        )
    points.mark_uncertain(to.database, copy, found.metrics)
    return sync_state.set_remote_ids(to.database, copy, found.run_id, found.experiment_id, found.artifact_uri)


def _create(to: Destination, run: Run, copy: RemoteRun, experiment_id: str) -> ServerRun:
    """Create the run on the server: with its id on a `proj server`, else with an id of the server."""
    is_proj = to.server.is_proj()
    new = NewRun(
        experiment_id=experiment_id,
        run_id=run.run_id if is_proj else None,
        name=run.name,
        user=run.user,
        started_at=run.started_at,
        tags={RUN_ID_TAG: run.run_id, **({USER_TAG: run.user} if run.user else {})},
    )
    try:
        created = to.server.create_run(new)
    except RemoteError as error:
        # Another home sent the same run in the meantime.
        found = run_of_same_id(to.database, to.server, run, copy) if error.code == ALREADY_EXISTS else None
        if found is None:
            raise
        return found
    if is_proj and created.run_id != run.run_id:
        message = f"{to.server.url} gives the run {run.run_id[:8]} the id {created.run_id[:8]}"
        hint = "it is an older proj server; a newer one keeps ids"
        to.report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
    return created


def _send(context: PushContext, run: Run, *, with_code: bool) -> None:
    names = send_models(context)
    _send_values(context, run, names)
    send_inputs(context, names)
    _send_points(context, names)
    destination = context.location(context.copy.artifact_uri or "", context.remote_run_id)
    if destination is not None and context.files:
        root = local_folder(run.artifact_uri)
        ids = {**names, context.copy.run_id: context.remote_run_id}
        send_files(context, destination, local_files(context, root, run.run_id), "", ids)
    if destination is not None and context.whole:
        send_files(context, destination, _provenance(context, run), "", {})
        if with_code:
            send_code(context, destination, run)
    _send_state(context, run)


def _send_values(context: PushContext, run: Run, names: Mapping[str, str]) -> None:
    server, run_id = context.server, context.remote_run_id
    parameters = {one.key: one.value for one in params(context.database, run.run_id)}
    sent = context.send_pairs(
        "parameter", parameters, MAX_BATCH["params"], lambda pairs: server.log_batch(run_id, params=pairs)
    )
    context.count(parameters=sent)
    tags = _tags(context, run, names)
    sent = context.send_pairs("tag", tags, MAX_BATCH["tags"], lambda pairs: server.log_batch(run_id, tags=pairs))
    context.count(tags=sent)
    removed = [key for key in sync_state.sent(context.database, context.copy, "tag") if key not in tags]
    for key in removed:
        server.delete_tag(run_id, key)
    sync_state.clear_sent(context.database, context.copy, "tag", removed)


def _tags(context: PushContext, run: Run, names: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run for the server, with the server's ids of runs and models."""
    ids = {**names, run.run_id: context.remote_run_id}
    pattern = re.compile("|".join(map(re.escape, ids)))
    tags = {key: pattern.sub(lambda found: ids[found[0]], value) for key, value in run.tags.items()}
    parent = run.tags.get(PARENT_TAG)
    if parent is not None:
        # A parent that is not on the server yet is set after both have been sent.
        there = sync_state.find_remote_run(context.database, parent, context.copy.server)
        tags[PARENT_TAG] = (there.remote_run_id if there else None) or ""
        tags = {key: value for key, value in tags.items() if key != PARENT_TAG or value}
    if run.run_id != context.remote_run_id:
        tags[RUN_ID_TAG] = run.run_id
    return {key: value for key, value in tags.items() if key != RUN_NAME_TAG}


def _send_points(context: PushContext, names: dict[str, str]) -> None:
    db, copy = context.database, context.copy
    points.reconcile(db, copy, context.server)
    measured = points_by_model(context, names)
    skipped = frozenset(sync_state.sent(db, copy, "refused metric"))
    for number in count():
        batch = points.next_batch(db, copy, skipped)
        if not batch.points:
            return
        if number == _LONG:
            message = f"Sending many points of run {copy.run_id[:8]}"
            context.report(Event(kind=EventKind.STEP, message=message))
        refused = _send_batch(context, batch, measured)
        points.mark_sent(db, copy, batch)
        context.count(points=sum(key not in refused for key, _ in batch.points))
        if refused:
            context.note("refused metric", dict.fromkeys(refused, ""))
            skipped |= refused


def _send_batch(context: PushContext, batch: Batch, measured: Mapping[tuple[str, int, int], Metric]) -> frozenset[str]:
    """Send points; if they are refused, send each metric alone. Return the refused metrics."""
    metrics = points.as_metrics(batch.points, measured)
    if _refusal_of(context, metrics) is None:
        return frozenset()
    refused = set()
    for key in dict.fromkeys(metric.key for metric in metrics):
        why = _refusal_of(context, [metric for metric in metrics if metric.key == key])
        if why is not None:
            refused.add(key)
            context.leave_out(f"metric '{key}'", why)
    return frozenset(refused)


def _refusal_of(context: PushContext, metrics: list[Metric]) -> str | None:
    """Send points and return the reason for a refusal, or None."""
    try:
        context.server.log_batch(context.remote_run_id, metrics=metrics)
    except RemoteError as error:
        if not is_refusal(error):
            raise
        return error.message
    return None


def _send_state(context: PushContext, run: Run) -> None:
    """Send name, status and end last, so that a run which has ended on the server is complete there."""
    is_over = context.whole
    state = {"name": run.name, **({"status": run.status.value, "end": str(run.ended_at)} if is_over else {})}
    if context.changed("state of the run", {"": as_json(state)}):
        context.server.update_run(
            context.remote_run_id, run.status if is_over else None, run.ended_at if is_over else None, run.name
        )
        context.note("state of the run", {"": as_json(state)})


def _provenance(context: PushContext, run: Run) -> dict[str, LocalFile]:
    """Return the run bundle as files; a record over the size limit is reported and skipped."""
    home, run_id = context.home, run.run_id
    if run.details.command is None:
        return {}
    folder = home.run(run_id)
    files = {path: LocalFile(folder, (name,)) for path, name in bundle_records.KEPT.items()}
    record = make_record(
        run, experiments.get(context.database, run.experiment_id).name, params(context.database, run_id), home
    )
    content = msgspec.json.format(msgspec.json.encode(record), indent=2)
    if len(content) <= bundle_records.MAX_RECORD:
        files[bundle_records.RECORD] = _stored(LocalFile(folder, (bundle_records.RECORD_NAME,)), content)
    else:
        why = f"it has {len(content) >> 20} MB, of at most {bundle_records.MAX_RECORD >> 20}"
        context.leave_out_files(f"file '{bundle_records.RECORD}'", why)
    return {path: file for path, file in files.items() if file.status() is not None}


def _stored(file: LocalFile, content: bytes) -> LocalFile:
    """Write content to a file unless it is there already, and return the file."""
    try:
        with open_found(file.root, file.names) as known:
            is_known = known.read(len(content) + 1) == content
    except NotFoundError:
        is_known = False
    if not is_known:
        write_file(file.root, file.names, [content])
    return file
