"""Copies a run to a server; skips content already sent and continues an interrupted push.

The sync state records the sent content. A run is created on the server only once: the intention is recorded before the
request, and the new run has the local id in a tag, by which it is found again if the response is lost.
"""

import os
import re
from collections.abc import Mapping
from itertools import count

import msgspec
from msgspec import Struct

from runner.base.files import locked, write_atomically
from runner.errors import RemoteError, UsageError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.store import experiments, run_files, runs
from runner.store.artifacts import local_folder
from runner.store.database import Database
from runner.store.entities import LifecycleStage, Metric, NewRun, Run
from runner.store.records import make_record
from runner.store.row_helpers import RUN_NAME_TAG
from runner.store.rules import MAX_BATCH
from runner.store.values import params
from runner.sync import points, sync_state
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.copying import Copying, Counts, as_json, digest_of, is_refusal
from runner.sync.files import LocalFile, local_files, send_files
from runner.sync.logged_models import measured_on_models, send_inputs, send_models
from runner.sync.points import Batch
from runner.sync.sync_state import RemoteRun, SentPosition

ID_TAG = "proj.run_id"
"""Tag on the server with the local run id."""
PARENT_TAG = "mlflow.parentRunId"
PROBE_TAG = "probe.of.proj"
"""Temporary tag that shows whether the server serves this store."""
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


class Destination(Struct, frozen=True, kw_only=True):
    """The store and the server of a push, and the event callback."""

    database: Database
    home: Home
    server: RemoteServer
    report: Report


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
        copying = Copying(
            database=to.database,
            home=to.home,
            server=to.server,
            report=to.report,
            copy=copy if copy.remote_run_id else _open(to, run, copy),
            whole=whole and run.status.is_over,
            files=files or (whole and run.status.is_over),
            left_out=[],
        )
        _send(copying, run)
        if copying.whole:
            sync_state.set_waiting(to.database, copy, waiting=False)
    return Pushed(
        run_id=run_id,
        server=to.server.url,
        remote_run_id=copying.remote_run_id,
        url=copying.copy.page,
        sent=copying.counts,
        left_out=tuple(copying.left_out),
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
        raise RemoteError(f"The run {run_id[:8]} is deleted on {to.server.url}", status=400, hint="restore it there")
    return copy


def experiment_there(server: RemoteServer, name: str) -> str:
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
    found = _of_the_same_id(to, run, copy)
    if found is None:
        experiment_id = experiment_there(to.server, experiments.get(to.database, run.experiment_id).name)
        wanted = f"tags.`{ID_TAG}` = '{run.run_id}'"
        found = next(to.server.search_runs([experiment_id], wanted, limit=1), None)
    if found is None:
        new = NewRun(
            experiment_id=experiment_id,
            name=run.name,
            user=run.user,
            started_at=run.started_at,
            tags={ID_TAG: run.run_id, **({"mlflow.user": run.user} if run.user else {})},
        )
        found = to.server.create_run(new)
    points.mark_uncertain(to.database, copy, found.metrics)
    return sync_state.name_remote_run(to.database, copy, found.run_id, found.experiment_id, found.artifact_uri)


def _of_the_same_id(to: Destination, run: Run, copy: RemoteRun) -> ServerRun | None:
    """Return the server's run with the same id: the local run was pulled from there.

    Raises:
        UsageError: the server serves this store, so it is the same run.
    """
    try:
        found = to.server.run(run.run_id)
    except RemoteError as error:
        # Servers with ids of another format may refuse this one.
        if error.is_absent or is_refusal(error):
            return None
        raise
    word = os.urandom(8).hex()
    to.server.log_batch(run.run_id, tags={PROBE_TAG: word})
    is_ours = runs.get(to.database, run.run_id).tags.get(PROBE_TAG) == word
    to.server.delete_tag(run.run_id, PROBE_TAG)
    if is_ours:
        sync_state.remove_remote_run(to.database, copy)
        raise UsageError(f"{to.server.url} serves this store, which has the run already", hint="name another server")
    same_tags = {key: value for key, value in run.tags.items() if found.tags.get(key) == value}
    same_params = {key: value for key, value in run.params.items() if found.params.get(key) == value}
    for kind, things in (("tag", same_tags), ("parameter", same_params)):
        sync_state.note_sent(
            to.database, copy, kind, {key: SentPosition(digest_of(value)) for key, value in things.items()}
        )
    return found


def _send(copying: Copying, run: Run) -> None:
    names = send_models(copying)
    _send_values(copying, run, names)
    send_inputs(copying, names)
    _send_points(copying, names)
    place = copying.place(copying.copy.artifact_uri or "", copying.remote_run_id)
    if place is not None and copying.files:
        root = local_folder(run.artifact_uri)
        ids = {**names, copying.copy.run_id: copying.remote_run_id}
        send_files(copying, place, local_files(copying, root), "", ids)
    if place is not None and copying.whole:
        send_files(copying, place, _provenance(copying, run), "", {})
    _send_state(copying, run)


def _send_values(copying: Copying, run: Run, names: Mapping[str, str]) -> None:
    server, run_id = copying.server, copying.remote_run_id
    parameters = {one.key: one.value for one in params(copying.database, run.run_id)}
    sent = copying.send_pairs(
        "parameter", parameters, MAX_BATCH["params"], lambda pairs: server.log_batch(run_id, params=pairs)
    )
    copying.count(parameters=sent)
    tags = _tags(copying, run, names)
    sent = copying.send_pairs("tag", tags, MAX_BATCH["tags"], lambda pairs: server.log_batch(run_id, tags=pairs))
    copying.count(tags=sent)
    gone = [key for key in sync_state.sent(copying.database, copying.copy, "tag") if key not in tags]
    for key in gone:
        server.delete_tag(run_id, key)
    sync_state.clear_sent(copying.database, copying.copy, "tag", gone)


def _tags(copying: Copying, run: Run, names: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run for the server, with the server's ids of runs and models."""
    ids = {**names, run.run_id: copying.remote_run_id}
    pattern = re.compile("|".join(map(re.escape, ids)))
    tags = {key: pattern.sub(lambda found: ids[found[0]], value) for key, value in run.tags.items()}
    parent = run.tags.get(PARENT_TAG)
    if parent is not None:
        # A parent that is not on the server yet is set after both have been sent.
        there = sync_state.find_remote_run(copying.database, parent, copying.copy.server)
        tags[PARENT_TAG] = (there.remote_run_id if there else None) or ""
        tags = {key: value for key, value in tags.items() if key != PARENT_TAG or value}
    if run.run_id != copying.remote_run_id:
        tags[ID_TAG] = run.run_id
    return {key: value for key, value in tags.items() if key != RUN_NAME_TAG}


def _send_points(copying: Copying, names: dict[str, str]) -> None:
    db, copy = copying.database, copying.copy
    points.reconcile(db, copy, copying.server)
    measured = measured_on_models(copying, names)
    skipped = frozenset(sync_state.sent(db, copy, "refused metric"))
    for number in count():
        batch = points.next_batch(db, copy, skipped)
        if not batch.points:
            return
        if number == _LONG:
            message = f"Sending many points of run {copy.run_id[:8]}"
            copying.report(Event(kind=EventKind.STEP, message=message))
        refused = _send_batch(copying, batch, measured)
        points.finish(db, copy, batch)
        copying.count(points=sum(key not in refused for key, _ in batch.points))
        if refused:
            copying.note("refused metric", dict.fromkeys(refused, ""))
            skipped |= refused


def _send_batch(copying: Copying, batch: Batch, measured: Mapping[tuple[str, int, int], Metric]) -> frozenset[str]:
    """Send points; if they are refused, send each metric alone. Return the refused metrics."""
    metrics = points.as_metrics(batch.points, measured)
    if _refusal_of(copying, metrics) is None:
        return frozenset()
    refused = set()
    for key in dict.fromkeys(metric.key for metric in metrics):
        why = _refusal_of(copying, [metric for metric in metrics if metric.key == key])
        if why is not None:
            refused.add(key)
            copying.leave_out(f"metric '{key}'", why)
    return frozenset(refused)


def _refusal_of(copying: Copying, metrics: list[Metric]) -> str | None:
    """Send points and return the reason for a refusal, or None."""
    try:
        copying.server.log_batch(copying.remote_run_id, metrics=metrics)
    except RemoteError as error:
        if not is_refusal(error):
            raise
        return error.message
    return None


def _send_state(copying: Copying, run: Run) -> None:
    """Send name, status and end last, so that a run which has ended on the server is complete there."""
    is_over = copying.whole
    state = {"name": run.name, **({"status": run.status.value, "end": str(run.ended_at)} if is_over else {})}
    if copying.changed("state of the run", {"": as_json(state)}):
        copying.server.update_run(
            copying.remote_run_id, run.status if is_over else None, run.ended_at if is_over else None, run.name
        )
        copying.note("state of the run", {"": as_json(state)})


def _provenance(copying: Copying, run: Run) -> dict[str, LocalFile]:
    """Return the run bundle as files; a record over the size limit is reported and skipped."""
    home, run_id = copying.home, run.run_id
    if run.details.command is None:
        return {}
    folder = home.run(run_id)
    files = {path: LocalFile(folder, (name,)) for path, name in run_files.KEPT.items()}
    record = make_record(
        run, experiments.get(copying.database, run.experiment_id).name, params(copying.database, run_id), home
    )
    content = msgspec.json.format(msgspec.json.encode(record), indent=2)
    if len(content) <= run_files.MAX_RECORD:
        files[run_files.RECORD] = _stored(LocalFile(folder, (run_files.RECORD_NAME,)), content)
    else:
        why = f"it has {len(content) >> 20} MB, of at most {run_files.MAX_RECORD >> 20}"
        copying.leave_out_once(f"file '{run_files.RECORD}'", why)
    return {path: file for path, file in files.items() if file.status() is not None}


def _stored(file: LocalFile, content: bytes) -> LocalFile:
    """Write content to a file unless it is there already, and return the file."""
    target = file.root.joinpath(*file.names)
    if not target.is_file() or target.read_bytes() != content:
        write_atomically(target, content)
    return file
