"""Writes imported runs and experiments with their original ids, times and states, each in one transaction."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

import msgspec
from msgspec import Struct

from runner.base.tags import ORIGIN_TAG, RUN_NAME_TAG
from runner.errors import InvalidValueError
from runner.store import experiments, lineage
from runner.store.database import Database
from runner.store.entities import Experiment, LifecycleStage, Metric, ModelOutput, Run, RunInputs
from runner.store.names import make_name
from runner.store.row_helpers import experiment_number, now, write_run_tags
from runner.store.rules import check_experiment_name, check_integer, check_metric
from runner.store.values import UPSERT_METRIC, point_row, rank, stored_value

_DELETED = "deleted: "
"""The prefix of the state digest of a run that is deleted in the other store."""


class Change(str, Enum):
    """The effect of an import on the store."""

    ADDED = "added"
    UPDATED = "updated"
    SAME = "unchanged"
    """Unchanged in the other store; local changes stay."""
    OWN = "own"
    """Present but not imported, so it is left unchanged."""


class ImportedRun(Struct, frozen=True, kw_only=True):
    """A run of another store. Its experiment id is local; its metric points are passed separately."""

    run: Run
    deleted_at: int | None = None
    inputs: RunInputs = RunInputs()
    outputs: tuple[ModelOutput, ...] = ()
    origin: str
    """The address of the other store."""


def find_experiment(db: Database, found: Experiment) -> Experiment | None:
    """Return the local experiment for one of another store; experiments are identified by name."""
    return experiments.find(db, found.name)


def add_experiment(db: Database, found: Experiment) -> str:
    """Create an experiment of another store with its times and state, and return its local id.

    If another process created it in the meantime, its id is returned.

    Raises:
        InvalidValueError: the name is invalid.
    """
    deleted_at = found.updated_at if found.lifecycle_stage is LifecycleStage.DELETED else None
    with db.transaction():
        here = find_experiment(db, found)
        if here is not None:
            return here.id
        number = db.insert(
            "INSERT INTO experiments (name, lifecycle_stage, created_at, updated_at, deleted_at)"
            " VALUES (?, ?, ?, ?, ?)",
            check_experiment_name(found.name),
            found.lifecycle_stage.value,
            found.created_at,
            found.updated_at,
            deleted_at,
        )
    return str(number)


def add_experiment_tags(db: Database, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Add the missing tags to an experiment."""
    number = experiment_number(experiment_id)
    rows = ((number, key, value) for key, value in tags.items())
    db.execute_many("INSERT OR IGNORE INTO experiment_tags VALUES (?, ?, ?)", rows)


def lookup(db: Database, run_id: str) -> tuple[str, bool] | None:
    """Return the local experiment of a run and whether the run was imported, or None if there is no such run."""
    rows = db.query(
        "SELECT r.experiment, o.run IS NOT NULL AS came FROM runs r LEFT JOIN origins o ON o.run = r.id"
        " WHERE r.run_id = ?",
        run_id,
    )
    return (str(rows[0]["experiment"]), bool(rows[0]["came"])) if rows else None


def import_run(db: Database, imported: ImportedRun, points: Iterable[Metric]) -> tuple[Change, int]:
    """Insert or update an imported run in one transaction; return the change and the number of new points.

    Values that changed in the other store since the last import replace the local ones; otherwise local changes stay.
    Points are read one by one to limit memory; an error in them leaves the store unchanged.

    Raises:
        InvalidValueError: a value of the run is invalid.
    """
    state = _state(imported)
    _check_times(imported)
    with db.transaction():
        rows = db.query(
            "SELECT r.id, r.lifecycle_stage, r.deleted_at, o.state FROM runs r LEFT JOIN origins o ON o.run = r.id"
            " WHERE r.run_id = ?",
            imported.run.run_id,
        )
        if rows and rows[0]["state"] is None:
            return Change.OWN, 0
        number = int(rows[0]["id"]) if rows else _insert(db, imported)
        changed = not rows or rows[0]["state"] != state
        if changed:
            _write(db, number, imported)
            db.execute("INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?)", number, imported.origin, state, now())
        added = _add_points(db, number, points)
        deleted_at = imported.deleted_at
        if rows and deleted_at is None and not (changed and rows[0]["state"].startswith(_DELETED)):
            # Only a deletion that came from the other store is reversed when the run is restored there.
            deleted_at = rows[0]["deleted_at"]
        stage = LifecycleStage.ACTIVE if deleted_at is None else LifecycleStage.DELETED
        db.execute("UPDATE runs SET lifecycle_stage = ?, deleted_at = ? WHERE id = ?", stage.value, deleted_at, number)
    if not rows:
        return Change.ADDED, added
    return (Change.UPDATED if changed or added else Change.SAME), added


def _check_times(imported: ImportedRun) -> None:
    for moment in (imported.run.started_at, imported.run.ended_at, imported.deleted_at):
        if moment is not None:
            check_integer("A time of the run", moment)


def _insert(db: Database, imported: ImportedRun) -> int:
    run = imported.run
    name = run.name or run.tags.get(RUN_NAME_TAG) or make_name()
    columns = {
        "run_id": run.run_id,
        "experiment": experiment_number(run.experiment_id),
        "name": name,
        "user": run.user,
        "status": run.status.value,
        "started_at": run.started_at,
        "artifact_uri": run.artifact_uri,
    }
    number = db.insert(
        f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *columns.values()
    )
    db.execute("INSERT INTO details VALUES (?, ?)", number, msgspec.json.encode(run.details).decode())
    write_run_tags(db, number, [(RUN_NAME_TAG, name), (ORIGIN_TAG, imported.origin)])
    return number


def _write(db: Database, number: int, imported: ImportedRun) -> None:
    """Write the values of a run. The run is active meanwhile, because the called functions require that."""
    run = imported.run
    db.execute(
        "UPDATE runs SET status = ?, started_at = ?, ended_at = ?, lifecycle_stage = 'active' WHERE id = ?",
        run.status.value,
        run.started_at,
        run.ended_at,
        number,
    )
    if run.name:
        write_run_tags(db, number, [(RUN_NAME_TAG, run.name)])
    write_run_tags(db, number, list(run.tags.items()))
    params = ((number, key, value) for key, value in run.params.items())
    db.execute_many("INSERT OR IGNORE INTO params (run, key, value) VALUES (?, ?, ?)", params)
    lineage.log_inputs(db, run.run_id, imported.inputs.datasets, imported.inputs.model_ids)
    lineage.log_outputs(db, run.run_id, imported.outputs)


def _add_points(db: Database, number: int, points: Iterable[Metric]) -> int:
    last: dict[str, Metric] = {}

    def rows() -> Iterator[tuple[object, ...]]:
        for point in points:
            known = last.get(point.key)
            if known is None:
                check_metric(point)
            if known is None or rank(point) >= rank(known):
                last[point.key] = point
            yield point_row(number, point)

    try:
        added = db.execute_many("INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?, ?)", rows())
    except OverflowError as error:
        raise InvalidValueError("A time or step of a metric is not a 64-bit integer") from error
    latest = ((number, p.key, stored_value(p), p.timestamp, p.step) for p in last.values())
    db.execute_many(UPSERT_METRIC, latest)
    return added


def _state(imported: ImportedRun) -> str:
    """Return a digest of all values of an imported run except its points, which are only ever added to."""
    run = imported.run
    try:
        content = msgspec.msgpack.encode(
            (
                (run.name, run.user, run.status.value, run.started_at, run.ended_at, imported.deleted_at),
                sorted(run.params.items()),
                sorted(run.tags.items()),
                imported.inputs,
                imported.outputs,
            )
        )
    except OverflowError as error:
        raise InvalidValueError(f"A time of the run '{run.run_id}' is not a 64-bit integer") from error
    digest = hashlib.sha256(content).hexdigest()
    return digest if imported.deleted_at is None else f"{_DELETED}{digest}"
