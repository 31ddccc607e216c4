"""Stores experiments: named groups of runs."""

import sqlite3
from collections.abc import Mapping, Sequence

from runner.base.tags import REMOVING_TAG
from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.store.database import Database, Row
from runner.store.entities import Experiment, LifecycleStage
from runner.store.row_helpers import checked_tags, chunks, experiment_number, now
from runner.store.rules import check_experiment_name

DEFAULT_ID = "0"
"""The id of the experiment ``Default``, which every store has."""


def names(db: Database) -> list[str]:
    """Return the names of the active experiments that were changed last, at most 1,000."""
    sql = "SELECT name FROM experiments WHERE lifecycle_stage = 'active' ORDER BY updated_at DESC LIMIT 1000"
    return [row["name"] for row in db.query(sql)]


def create(db: Database, name: str, artifact_location: str | None = None, tags: Mapping[str, str] = {}) -> str:
    """Create an experiment and return its id.

    Raises:
        AlreadyExistsError: the name is in use, possibly by a deleted experiment.
        InvalidValueError: the name or a tag is invalid.
    """
    pairs = checked_tags(tags)
    moment = now()
    with db.transaction():
        _refuse_taken(db, check_experiment_name(name))
        number = db.insert(
            "INSERT INTO experiments (name, artifact_location, created_at, updated_at) VALUES (?, ?, ?, ?)",
            name,
            artifact_location or None,
            moment,
            moment,
        )
        db.execute_many("INSERT INTO experiment_tags VALUES (?, ?, ?)", ((number, *pair) for pair in pairs))
    return str(number)


def get(db: Database, experiment_id: str) -> Experiment:
    """Return the experiment with this id, including deleted ones.

    Raises:
        NotFoundError: there is no such experiment.
    """
    found = load(db, [experiment_number(experiment_id)])
    if not found:
        raise NotFoundError(f"There is no experiment with the id '{experiment_id}'")
    return found[0]


def find(db: Database, name: str) -> Experiment | None:
    """Return the experiment with this name, including deleted ones, or None."""
    rows = db.query("SELECT id FROM experiments WHERE name = ?", name)
    return load(db, [int(rows[0]["id"])])[0] if rows else None


def ensure(db: Database, name: str) -> str:
    """Return the id of the active experiment with this name; create it if it does not exist.

    Raises:
        InvalidValueError: the experiment is deleted, or the name is invalid.
    """
    with db.transaction():
        rows = db.query("SELECT id, lifecycle_stage FROM experiments WHERE name = ?", name)
        if not rows:
            return create(db, name)
    if rows[0]["lifecycle_stage"] != LifecycleStage.ACTIVE.value:
        raise InvalidValueError(f"The experiment '{name}' is deleted", hint="Restore it, or use another name.")
    return str(rows[0]["id"])


def load(db: Database, numbers: list[int]) -> list[Experiment]:
    """Return the experiments with these row numbers, in this order."""
    rows: dict[int, Row] = {}
    tags: dict[int, dict[str, str]] = {}
    for piece, marks in chunks(numbers):
        rows.update((row["id"], row) for row in db.query(f"SELECT * FROM experiments WHERE id IN ({marks})", *piece))
        for row in db.query(f"SELECT * FROM experiment_tags WHERE experiment IN ({marks})", *piece):
            tags.setdefault(row["experiment"], {})[row["key"]] = row["value"]
    return [_experiment(db, rows[number], tags.get(number, {})) for number in numbers if number in rows]


def count_runs(db: Database, experiment_ids: Sequence[str]) -> dict[str, int]:
    """Return the number of active runs in each of these experiments; experiments without runs are omitted."""
    counted = "SELECT experiment, count(*) AS count FROM runs WHERE lifecycle_stage = 'active' AND experiment IN"
    found: dict[str, int] = {}
    for piece, marks in chunks([int(word) for word in experiment_ids]):
        rows = db.query(f"{counted} ({marks}) GROUP BY experiment", *piece)
        found.update((str(row["experiment"]), row["count"]) for row in rows)
    return found


def rename(db: Database, experiment_id: str, name: str) -> None:
    """Rename an active experiment.

    Raises:
        AlreadyExistsError: another experiment has the name.
        InvalidValueError: the experiment is deleted, or the name is invalid.
    """
    check_experiment_name(name)
    with db.transaction():
        experiment = get(db, experiment_id)
        if experiment.lifecycle_stage is not LifecycleStage.ACTIVE:
            raise InvalidValueError(f"The experiment '{experiment.name}' is deleted", hint="Restore it first.")
        if name != experiment.name:
            _refuse_taken(db, name)
            db.execute("UPDATE experiments SET name = ?, updated_at = ? WHERE id = ?", name, now(), int(experiment_id))


def delete(db: Database, experiment_id: str) -> None:
    """Mark an experiment and its runs as deleted; `restore` reverses it.

    Raises:
        InvalidValueError: it is the default experiment.
    """
    if experiment_number(experiment_id) == int(DEFAULT_ID):
        raise InvalidValueError("The default experiment can't be deleted")
    _move(db, experiment_id, LifecycleStage.DELETED)


def restore(db: Database, experiment_id: str) -> None:
    """Restore a deleted experiment and its runs."""
    _move(db, experiment_id, LifecycleStage.ACTIVE)


def set_tag(db: Database, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment."""
    pairs = checked_tags([(key, value)])
    with db.transaction():
        number = int(get(db, experiment_id).id)
        db.execute_many("INSERT OR REPLACE INTO experiment_tags VALUES (?, ?, ?)", ((number, *pair) for pair in pairs))
        db.execute("UPDATE experiments SET updated_at = ? WHERE id = ?", now(), number)


def delete_tag(db: Database, experiment_id: str, key: str) -> None:
    """Remove a tag of an experiment.

    Raises:
        NotFoundError: the experiment has no such tag.
    """
    with db.transaction():
        number = int(get(db, experiment_id).id)
        if not db.execute("DELETE FROM experiment_tags WHERE experiment = ? AND key = ?", number, key):
            raise NotFoundError(f"The experiment '{experiment_id}' has no tag '{key}'")


def _move(db: Database, experiment_id: str, stage: LifecycleStage) -> None:
    with db.transaction():
        experiment = get(db, experiment_id)
        if experiment.lifecycle_stage is stage:
            raise InvalidValueError(f"The experiment '{experiment.name}' is already {stage.value}")
        number, moment = int(experiment.id), now()
        # Runs deleted with their experiment get its deletion time, so that `restore` restores only those.
        if stage is LifecycleStage.DELETED:
            db.execute(_DELETE_RUNS, moment, number)
        else:
            db.execute(_RESTORE_RUNS, number, number)
        deleted_at = moment if stage is LifecycleStage.DELETED else None
        db.execute(
            "UPDATE experiments SET lifecycle_stage = ?, updated_at = ?, deleted_at = ? WHERE id = ?",
            stage.value,
            moment,
            deleted_at,
            number,
        )


_DELETE_RUNS = """UPDATE runs SET lifecycle_stage = 'deleted', deleted_at = ?
    WHERE experiment = ? AND lifecycle_stage = 'active'"""
_RESTORE_RUNS = f"""UPDATE runs SET lifecycle_stage = 'active', deleted_at = NULL
    WHERE experiment = ? AND deleted_at = (SELECT deleted_at FROM experiments WHERE id = ?)
    AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.run = runs.id AND t.key = '{REMOVING_TAG}')"""


def _refuse_taken(db: Database, name: str) -> None:
    other = find(db, name)
    if other is not None:
        deleted = other.lifecycle_stage is LifecycleStage.DELETED
        raise AlreadyExistsError(
            f"An experiment '{name}' already exists{', in the deleted state' if deleted else ''}",
            hint="Restore it, or use another name." if deleted else "Use it, or choose another name.",
        )


def _experiment(db: Database, row: sqlite3.Row, tags: Mapping[str, str]) -> Experiment:
    return Experiment(
        id=str(row["id"]),
        name=row["name"],
        artifact_location=row["artifact_location"] or (db.path.absolute().parent / "runs").as_uri(),
        lifecycle_stage=LifecycleStage(row["lifecycle_stage"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=tags,
    )
