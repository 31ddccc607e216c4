"""Stores the inputs and outputs of runs: datasets and logged models."""

from collections.abc import Sequence

import msgspec

from runner.errors import InvalidValueError
from runner.store.database import Database
from runner.store.entities import Dataset, DatasetInput, ModelOutput, RunInputs
from runner.store.row_helpers import chunks, run_number
from runner.store.rules import MAX_EXPERIMENT_NAME

CONTEXT_TAG = "mlflow.data.context"

_MAX_DIGEST = 36
_MAX_TEXTS = {"source": 1_000_000, "schema": 1_000_000, "profile": 16_777_215}


def log_inputs(db: Database, run_id: str, datasets: Sequence[DatasetInput] = (), model_ids: Sequence[str] = ()) -> None:
    """Record the inputs of a run: datasets and models; stored entries stay unchanged.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted, or a dataset is invalid.
    """
    for one in datasets:
        _check(one.dataset)
    with db.transaction():
        run = run_number(db, run_id, active=True)
        for one in datasets:
            number = _dataset_number(db, run, one.dataset)
            tags = msgspec.json.encode(one.tags).decode()
            context = one.tags.get(CONTEXT_TAG)
            db.execute("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?)", run, number, tags, context)
        db.execute_many(_USE, ((run, "input", model_id, 0) for model_id in model_ids))


def log_outputs(db: Database, run_id: str, models: Sequence[ModelOutput]) -> None:
    """Record the logged models that a run made.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted.
    """
    with db.transaction():
        run = run_number(db, run_id, active=True)
        db.execute_many(_USE, ((run, "output", model.model_id, model.step) for model in models))


def inputs(db: Database, run_id: str) -> RunInputs:
    """Return the datasets and models that a run read.

    Raises:
        NotFoundError: there is no such run.
    """
    run = run_number(db, run_id)
    rows = db.query(
        "SELECT d.*, i.tags FROM inputs i JOIN datasets d ON d.id = i.dataset WHERE i.run = ? ORDER BY d.id", run
    )
    datasets = tuple(
        DatasetInput(
            dataset=Dataset(
                name=row["name"],
                digest=row["digest"],
                source_type=row["source_type"],
                source=row["source"],
                schema=row["schema"],
                profile=row["profile"],
            ),
            tags=msgspec.json.decode(row["tags"], type=dict[str, str]),
        )
        for row in rows
    )
    return RunInputs(datasets=datasets, model_ids=tuple(one.model_id for one in _models(db, run, "input")))


def outputs(db: Database, run_id: str) -> tuple[ModelOutput, ...]:
    """Return the logged models that a run made.

    Raises:
        NotFoundError: there is no such run.
    """
    return _models(db, run_number(db, run_id), "output")


def runs_with_links(db: Database, run_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the runs that have inputs or outputs ."""
    found: set[str] = set()
    for piece, marks in chunks(run_ids):
        rows = db.query(
            f"SELECT run_id FROM runs r WHERE run_id IN ({marks}) AND"
            " (EXISTS (SELECT 1 FROM inputs WHERE run = r.id) OR EXISTS (SELECT 1 FROM model_uses WHERE run = r.id))",
            *piece,
        )
        found.update(row["run_id"] for row in rows)
    return frozenset(found)


_USE = "INSERT OR REPLACE INTO model_uses (run, direction, model_id, step) VALUES (?, ?, ?, ?)"


def _models(db: Database, run: int, direction: str) -> tuple[ModelOutput, ...]:
    rows = db.query(
        "SELECT model_id, step FROM model_uses WHERE run = ? AND direction = ? ORDER BY step, model_id", run, direction
    )
    return tuple(ModelOutput(model_id=row["model_id"], step=row["step"]) for row in rows)


def _dataset_number(db: Database, run: int, dataset: Dataset) -> int:
    experiment_query = "SELECT experiment FROM runs WHERE id = ?"
    db.execute(
        "INSERT OR IGNORE INTO datasets (experiment, name, digest, source_type, source, schema, profile)"
        f" VALUES (({experiment_query}), ?, ?, ?, ?, ?, ?)",
        run,
        dataset.name,
        dataset.digest,
        dataset.source_type,
        dataset.source,
        dataset.schema,
        dataset.profile,
    )
    found = db.query(
        f"SELECT id FROM datasets WHERE experiment = ({experiment_query}) AND name = ? AND digest = ?",
        run,
        dataset.name,
        dataset.digest,
    )
    return int(found[0]["id"])


def _check(dataset: Dataset) -> None:
    if not dataset.name or len(dataset.name) > MAX_EXPERIMENT_NAME:
        raise InvalidValueError(f"The name of a dataset must have from 1 to {MAX_EXPERIMENT_NAME} characters")
    if not dataset.digest or len(dataset.digest) > _MAX_DIGEST:
        raise InvalidValueError(f"The digest of dataset '{dataset.name}' must have from 1 to {_MAX_DIGEST} characters")
    for what, limit in _MAX_TEXTS.items():
        if len(getattr(dataset, what) or "") > limit:
            raise InvalidValueError(f"The {what} of dataset '{dataset.name}' has more than {limit} characters")
