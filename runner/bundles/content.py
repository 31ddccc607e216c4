"""Collects what a bundle has of a run: record, histories, log, lock, artifacts, models, inputs, verdicts."""

import csv
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from posixpath import isabs

import msgspec
from msgspec import Struct, structs

from runner.base.tags import ORIGIN_TAG, REPRODUCTIONS_TAG
from runner.bundles import layout
from runner.bundles.layout import BundledInput, BundledVerdict, Logged, Part, bytes_part, file_part
from runner.errors import BundleError, InvalidValueError
from runner.model import RunRecord, RunStatus
from runner.reproduction.inputs import check_inputs, recorded_inputs, within_project
from runner.reproduction.verdict import InputState
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.source.run_code import open_recorded
from runner.source.snapshot import Snapshot
from runner.store import lineage, runs
from runner.store.artifact_paths import check_path
from runner.store.artifacts import local_folder, open_found, survey
from runner.store.database import Database
from runner.store.entities import LoggedModel, RunInputs
from runner.store.models import ModelQuery
from runner.store.models import search as search_models

COLUMNS = ("name", "step", "timestamp", "value")
"""The columns of ``metrics.csv``; a timestamp is in milliseconds since 1970 in UTC."""
_PIECE = 1 << 20
_LOCAL_TAGS = (ORIGIN_TAG, REPRODUCTIONS_TAG)
"""Tags about this store; the verdicts are in a file of their own."""


class Content(Struct, frozen=True, kw_only=True):
    """Everything that a bundle has of a run, except its code and packages."""

    record: RunRecord
    parts: tuple[Part, ...]
    verdicts: tuple[BundledVerdict, ...] = ()
    inputs: tuple[BundledInput, ...] = ()
    left_out: tuple[str, ...] = ()


class Choice(Struct, frozen=True, kw_only=True):
    """What the user wants in a bundle: inputs up to a size in bytes, and artifacts."""

    input_size: int = 0
    outputs: bool = True


def collect(run_id: str, home: Home, folder: Path, choice: Choice) -> Content:
    """Return the content of a bundle; files that have to be made are written to ``folder``.

    Raises:
        BundleError: the run has not ended, or proj did not run it.
        SnapshotError: the snapshot store does not have its code, or it is damaged.
    """
    with closing(Database.open_to_read(home.database)) as database:
        reader = LocalReader(database, home)
        record = reader.record(run_id)
        _require_portable(record)
        _, snapshot = open_recorded(record, home)
        logged, found, lost = _logged(database, run_id)
        parts = [*_artifacts(database, run_id, lost), *found] if choice.outputs else []
        if not choice.outputs:
            lost.append("outputs: they were not asked for")
        parts += _kept_files(home, run_id)
        parts.append(_history(reader, record, folder / layout.HISTORY))
        inputs, included = _inputs(record, snapshot, home, choice.input_size)
        parts += included
    verdicts = _verdicts(record)
    portable = portable_record(record, snapshot)
    parts.append(bytes_part(layout.RECORD, as_json(portable)))
    parts += [bytes_part(layout.LOGGED, as_json(logged))] if logged != Logged() else []
    parts += [bytes_part(layout.VERDICTS, as_json(verdicts))] if verdicts else []
    lost += [f"input {one.path}: only its digest" for one in inputs if not one.included]
    return Content(record=portable, parts=tuple(parts), verdicts=verdicts, inputs=inputs, left_out=tuple(lost))


def as_json(value: object) -> bytes:
    """Return a value as JSON for people, with sorted keys."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n"


def _require_portable(record: RunRecord) -> None:
    name = (record.run_id or "")[:8]
    if record.status is None or not RunStatus(record.status).is_over:
        raise BundleError(f"The run {name} has not ended yet", hint="Export it when it has.")
    if record.code is None or record.entry_point is None:
        hint = "Only runs of `proj run` can be exported."
        raise BundleError(f"The run {name} was not started by `proj run`, so it has no recorded code", hint=hint)


def portable_record(record: RunRecord, snapshot: Snapshot) -> RunRecord:
    """Return a record without the folders of this machine; paths inside the project become relative to it."""
    origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
    parameters = tuple(
        structs.replace(one, value=within_project(one.value, origin), raw=msgspec.UNSET)
        if one.type == "path" and within_project(one.value, origin) != one.value
        else one
        for one in record.parameters
    )
    return structs.replace(
        record,
        cwd=None,
        folder=None,
        log=None,
        parameters=parameters,
        environment=record.environment and structs.replace(record.environment, prefix=None),
        # JSON has no NaN and no infinity; the histories have all values.
        metrics={name: value for name, value in sorted(record.metrics.items()) if math.isfinite(value)},
        tags={name: value for name, value in sorted(record.tags.items()) if name not in _LOCAL_TAGS},
    )


def _verdicts(record: RunRecord) -> tuple[BundledVerdict, ...]:
    pairs = (entry.split(": ", 1) for entry in record.tags.get(REPRODUCTIONS_TAG, "").split("; ") if ": " in entry)
    return tuple(BundledVerdict(run_id=run_id, verdict=verdict) for run_id, verdict in pairs)


def _kept_files(home: Home, run_id: str) -> Iterator[Part]:
    """Yield the log, the lock, and the packages with which a run was imported."""
    lock, log = home.lock(run_id), home.log(run_id)
    if lock is not None:
        yield file_part(lock.name, lock)
    if log.is_file() and not log.is_symlink():
        yield file_part(layout.LOG, log)
    packages = home.packages(run_id)
    for path in sorted(packages.iterdir()) if packages.is_dir() else ():
        yield file_part(f"{layout.PACKAGES}/{path.name}", path)


def _history(reader: LocalReader, record: RunRecord, path: Path) -> Part:
    """Write the points of all metrics as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name in sorted(record.metrics):
            for point in reader.history(record.run_id or "", name):
                writer.writerow((name, point.step, point.timestamp, repr(point.value)))
    return file_part(layout.HISTORY, path)


def _logged(database: Database, run_id: str) -> tuple[Logged, list[Part], list[str]]:
    """Return what clients logged, the files of logged models, and what is left out of these."""
    query = ModelQuery(filter=f"source_run_id = '{run_id}'", limit=1000)
    models = search_models(database, query).items
    parts: list[Part] = []
    lost: list[str] = []
    for model in models:
        parts += _files(local_folder(model.artifact_uri), f"{layout.MODELS}/{model.model_id}", lost)
    inputs: RunInputs = lineage.inputs(database, run_id)
    logged = Logged(
        datasets=inputs.datasets,
        outputs=lineage.outputs(database, run_id),
        models=tuple(map(_portable_model, sorted(models, key=lambda model: model.model_id))),
    )
    return logged, parts, lost


def _portable_model(model: LoggedModel) -> LoggedModel:
    metrics = tuple(point for point in model.metrics if math.isfinite(point.value))
    return structs.replace(model, artifact_uri="", experiment_id="0", metrics=metrics)


def _artifacts(database: Database, run_id: str, lost: list[str]) -> Iterator[Part]:
    return _files(local_folder(runs.get(database, run_id).artifact_uri), layout.OUTPUTS, lost)


def _files(root: Path | None, folder: str, lost: list[str]) -> Iterator[Part]:
    """Yield the files below a folder of artifacts; ``lost`` gets those that a bundle can't have."""
    if root is None:
        lost.append(f"{folder}: the files are not in the local store")
        return
    found = survey(root)
    lost += [f"{folder}/{one.path}: {one.reason}" for one in found.omissions]
    for one in found.files:
        name = f"{folder}/{one.path}"
        try:
            check_path(name)
        except InvalidValueError:
            lost.append(f"{name}: its path is too long")
            continue
        yield Part(path=name, size=one.size, pieces=_Pieces(root, one.names))


class _Pieces(Struct, frozen=True):
    """Yields the content of an artifact."""

    root: Path
    names: tuple[str, ...]

    def __call__(self) -> Iterator[bytes]:
        with open_found(self.root, self.names) as file:
            while piece := file.read(_PIECE):
                yield piece


def _inputs(
    record: RunRecord, snapshot: Snapshot, home: Home, limit: int
) -> tuple[tuple[BundledInput, ...], list[Part]]:
    """Return the inputs outside the tree, and parts for those that are unchanged and not larger than ``limit``."""
    known: Mapping[str, tuple[int, str]] = {one.path: (one.size, one.sha256) for one in recorded_inputs(record)}
    origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
    found, parts = [], {}
    for check in check_inputs(record, snapshot, {}, home).checks:
        is_in_tree = check.state is InputState.UNCHANGED and check.path is None
        if is_in_tree or check.name not in known:
            continue
        size, digest = known[check.name]
        is_wanted = check.state is InputState.UNCHANGED and size <= limit and not isabs(check.name)
        one = BundledInput(path=within_project(check.name, origin), size=size, sha256=digest, included=is_wanted)
        if is_wanted and check.path:
            parts[one.member] = file_part(one.member, Path(check.path))
        found.append(one)
    return tuple(found), list(parts.values())
