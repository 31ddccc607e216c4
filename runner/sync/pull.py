"""Copies runs of a tracking server into the local store."""

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from runner.base import progress
from runner.base.tags import MODEL_ID_TAG, PARENT_TAG, RUN_ID_TAG, TREE_TAG
from runner.errors import InvalidValueError, NotFoundError, ProjError, RemoteError
from runner.importing.artifact_locations import is_elsewhere
from runner.importing.copying import Copied
from runner.importing.foreign import Values, as_measured
from runner.importing.summary import ImportSummary, Kind
from runner.model import Event, EventKind, RunDetails, RunRecord
from runner.settings import Home
from runner.store import artifact_digests, import_writer, model_import_writer
from runner.store.artifact_paths import names_of
from runner.store.artifacts import ArtifactInfo, open_found, size_of, write_artifact, write_file
from runner.store.database import Database
from runner.store.disk import sync
from runner.store.entities import Experiment, LifecycleStage, LoggedModel, Metric, ModelOutput, RunInputs
from runner.store.import_writer import Change, ImportedRun
from runner.store.row_helpers import RUN_ID
from runner.sync import bundle_records
from runner.sync.artifact_locations import ArtifactLocation, walk
from runner.sync.bundle import location_of, models_of, original_run_id, read_record
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.code import receive_code

_POINT = struct.Struct("<qqd")
_MOST_RUNS = 20_000
_MOST_METRICS = 20_000
_MOST_POINTS = 50_000_000
"""Limits of one pull: runs, metrics of a run, points of a run."""


class Origin(Struct, frozen=True, kw_only=True):
    """The source and the target of a pull, and the counts of its results."""

    server: RemoteServer
    database: Database
    home: Home
    summary: ImportSummary

    @property
    def values(self) -> Values:
        """The converter to values that the store accepts."""
        return Values(self.summary.report)


def nested_runs(server: RemoteServer, found: Sequence[ServerRun]) -> list[ServerRun]:
    """Return runs with all runs nested in them, parents first."""
    chosen = {run.run_id: run for run in found}
    waiting = list(chosen.values())
    while waiting:
        run = waiting.pop(0)
        wanted = f"tags.`{PARENT_TAG}` = '{run.run_id}'"
        children = server.search_runs([run.experiment_id], wanted, limit=_MOST_RUNS + 1)
        new = [child for child in children if child.run_id not in chosen]
        chosen.update((child.run_id, child) for child in new)
        if len(chosen) > _MOST_RUNS:
            raise RemoteError(f"{server.url} returns more than {_MOST_RUNS:,} nested runs", hint="pull fewer runs")
        waiting += new
    return list(chosen.values())


def pull(origin: Origin, run: ServerRun) -> None:
    """Copy a run, or its new content, into the store; files first, so that a visible run is complete.

    A run that proj pushed gets its original id and its complete record. A run that is already in the store and did not
    come from a server is left unchanged.

    Raises:
        RemoteError: the server fails.
    """
    message = f"Fetching run {run.run_id[:8]} ({run.name})"
    origin.summary.report(Event(kind=EventKind.STEP, message=message))
    try:
        change, points = _pull(origin, run)
    except (InvalidValueError, NotFoundError) as error:
        origin.summary.fail(Kind.RUNS, f"The run {run.run_id[:80]} is skipped: {_text_of(error)}", error.hint)
        return
    origin.summary.points += points
    origin.summary.count(Kind.RUNS, change)


def _pull(origin: Origin, run: ServerRun) -> tuple[Change, int]:
    run_id = original_run_id(run)
    if not RUN_ID.fullmatch(run_id):
        raise InvalidValueError("This is not a valid run id, which has 32 hexadecimal digits")
    present = import_writer.lookup(origin.database, run_id)
    if present is not None and not present[1]:
        return Change.OWN, 0
    experiment_id = _experiment(origin, run) if present is None else present[0]
    location = location_of(origin.server, run.artifact_uri, run.run_id)
    uri = _pull_files(origin, location, run.artifact_uri, run_id)
    if location is not None and TREE_TAG in run.tags:
        _pull_own_files(origin, location, run_id)
    names = _pull_models(origin, run, run_id, experiment_id)
    left = read_record(run, location)
    imported = _imported_run(origin, run, names, RunDetails() if left is None else _portable_details(left))
    own = msgspec.structs.replace(imported.run, run_id=run_id, experiment_id=experiment_id, artifact_uri=uri)
    with tempfile.TemporaryFile() as spool:
        # Points are fetched before the transaction, so that the server does not delay other writers.
        counts = _fetch_points(origin, run, spool)
        imported = msgspec.structs.replace(imported, run=own)
        done = import_writer.import_run(origin.database, imported, _stored_points(spool, counts))
    if location is not None and TREE_TAG in run.tags:
        receive_code(location, run_id, run.tags[TREE_TAG], origin.home, origin.summary.report)
    return done


def _experiment(origin: Origin, run: ServerRun) -> str:
    there = origin.server.experiment(run.experiment_id)
    here = import_writer.find_experiment(origin.database, there)
    if here is None:
        active = msgspec.structs.replace(there, lifecycle_stage=LifecycleStage.ACTIVE)
        origin.summary.count(Kind.EXPERIMENTS, Change.ADDED)
        number = import_writer.add_experiment(origin.database, active)
        tags = origin.values.tags(there.tags.items(), f"the experiment '{there.name}'")
        import_writer.add_experiment_tags(origin.database, number, tags)
        return number
    _refuse_deleted(here)
    return here.id


def _refuse_deleted(here: Experiment) -> None:
    if here.lifecycle_stage is LifecycleStage.DELETED:
        hint = f"Restore it with: proj experiments restore {here.id}"
        raise InvalidValueError(f"The experiment '{here.name}' is deleted here", hint=hint)


def _pull_files(origin: Origin, location: ArtifactLocation | None, uri: str, owner: str) -> str:
    """Copy the accessible artifacts of a run or model to the disk, record their digests, and return their new URI."""
    target = _folder_of(origin.home, owner)
    if location is None:
        masked = origin.values.text(uri)
        if uri:
            origin.summary.elsewhere.append(masked)
        return masked if is_elsewhere(uri) else target.absolute().as_uri()
    digests: dict[str, str] = {}
    for file in walk(location):
        if file.path.startswith(f"{bundle_records.FOLDER}/"):
            continue
        if file.size is not None and _is_same(location, file, target):
            continue
        digest = hashlib.sha256()
        progress.begin(file.size)
        size = write_artifact(target, file.path, _hashed(location.pieces(file.path, file.size), digest))
        digests["/".join(names_of(file.path))] = digest.hexdigest()
        origin.summary.artifacts += Copied(1, size)
    artifact_digests.record(origin.database, owner, target, digests)
    return target.absolute().as_uri()


def _folder_of(home: Home, owner: str) -> Path:
    return home.model_artifacts(owner) if model_import_writer.is_model_id(owner) else home.artifacts(owner)


def _hashed(pieces: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        progress.advance(len(piece))
        yield piece


def _is_same(location: ArtifactLocation, there: ArtifactInfo, target: Path) -> bool:
    names = names_of(there.path)
    if size_of(target, names) != there.size:
        return False
    with open_found(target, names) as file:
        return all(
            file.read(len(piece)) == piece for piece in location.pieces(there.path, there.size)
        ) and not file.read(1)


def _pull_own_files(origin: Origin, location: ArtifactLocation, run_id: str) -> None:
    """Copy log and lock from the run bundle to the folder of the run."""
    there = {file.path for file in location.entries(bundle_records.FOLDER)}
    kept = {path: name for path, name in bundle_records.KEPT.items() if path in there}
    folder = origin.home.run(run_id)
    for path, name in kept.items():
        write_file(folder, (name,), location.pieces(path))
    sync([os.fsencode(folder / name) for name in kept.values()], folder)


def _pull_models(origin: Origin, run: ServerRun, run_id: str, experiment_id: str) -> dict[str, str]:
    """Copy the logged models of a run and return their local ids."""
    names = {}
    for model in models_of(origin.server, run):
        named = model.tags.get(MODEL_ID_TAG, "")
        model_id = named if model_import_writer.is_model_id(named) else model.model_id
        names[model.model_id] = model_id
        location = location_of(origin.server, model.artifact_uri, model.model_id)
        own = msgspec.structs.replace(model, model_id=model_id, source_run_id=run_id, experiment_id=experiment_id)
        origin.summary.count(Kind.MODELS, _pull_model(origin, own, location))
    return names


def _pull_model(origin: Origin, model: LoggedModel, files: ArtifactLocation | None) -> Change:
    known = model_import_writer.find_model(origin.database, model.model_id)
    if known is not None and not known["came"]:
        return Change.OWN
    model_import_writer.check_model_id(model.model_id)
    uri = _pull_files(origin, files, model.artifact_uri, model.model_id)
    location = f"the model {model.model_id}"
    tags = {name: value for name, value in model.tags.items() if name != MODEL_ID_TAG}
    own = msgspec.structs.replace(
        model,
        artifact_uri=uri,
        params=origin.values.params(model.params.items(), location),
        tags=origin.values.tags(tags.items(), location),
        metrics=tuple(
            msgspec.structs.replace(point, run_id=model.source_run_id, value=as_measured(point.value))
            for point in model.metrics
        ),
    )
    return model_import_writer.import_model(origin.database, own, origin.server.url)


def _imported_run(origin: Origin, run: ServerRun, names: dict[str, str], details: RunDetails) -> ImportedRun:
    location = f"the run {run.run_id}"
    tags = {name: value for name, value in run.tags.items() if name != RUN_ID_TAG}
    if PARENT_TAG in tags:
        tags[PARENT_TAG] = _parent(origin, tags[PARENT_TAG])
    plain = msgspec.structs.replace(
        run,
        params=origin.values.params(run.params.items(), location),
        tags=origin.values.tags(tags.items(), location),
        details=details,
    )
    inputs = RunInputs(
        datasets=run.inputs.datasets,
        model_ids=tuple(names.get(model_id, model_id) for model_id in run.inputs.model_ids),
    )
    outputs = tuple(ModelOutput(model_id=names.get(one.model_id, one.model_id), step=one.step) for one in run.outputs)
    deleted = run.lifecycle_stage is LifecycleStage.DELETED
    return ImportedRun(
        run=plain,
        deleted_at=(run.ended_at or run.started_at) if deleted else None,
        inputs=inputs,
        outputs=outputs,
        origin=origin.server.url,
    )


def _parent(origin: Origin, run_id: str) -> str:
    """Return the local id of a parent run."""
    try:
        return original_run_id(origin.server.run(run_id)) if RUN_ID.fullmatch(run_id) else run_id
    except RemoteError as error:
        if error.is_absent:
            return run_id
        raise


def _portable_details(left: RunRecord) -> RunDetails:
    """Return the details recorded by proj; folder and log are removed, because they are paths of another machine."""
    names = set(RunDetails.__struct_fields__) - {"folder", "log"}
    return RunDetails(**{name: getattr(left, name) for name in names if hasattr(left, name)})


def _fetch_points(origin: Origin, run: ServerRun, spool: IO[bytes]) -> dict[str, int]:
    """Write all points of a run to a file, metric by metric, and return the number of points of each."""
    counts: dict[str, int] = {}
    if len(run.metrics) > _MOST_METRICS:
        raise InvalidValueError(f"It has more than {_MOST_METRICS:,} metrics")
    for name in run.metrics:
        count = 0
        for point in origin.server.metric_history(run.run_id, name):
            spool.write(_packed(point))
            count += 1
        counts[name] = count
        if sum(counts.values()) > _MOST_POINTS:
            raise InvalidValueError(f"Its metrics have more than {_MOST_POINTS:,} points")
    return counts


def _packed(point: Metric) -> bytes:
    try:
        return _POINT.pack(point.step, point.timestamp, as_measured(point.value))
    except struct.error as error:
        raise InvalidValueError(f"A time or step of the metric '{point.key[:80]}' is not a 64-bit integer") from error


def _stored_points(spool: IO[bytes], counts: dict[str, int]) -> Iterator[Metric]:
    spool.seek(0)
    for name, count in counts.items():
        for _ in range(count):
            step, timestamp, value = _POINT.unpack(spool.read(_POINT.size))
            yield Metric(key=name, value=value, timestamp=timestamp, step=step)


def _text_of(error: ProjError) -> str:
    return f"{error.message}: {error.context}" if error.context else error.message
