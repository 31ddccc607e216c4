"""Stores logged models, which MLflow 3 clients log separately from runs."""

import uuid
from collections.abc import Mapping, Sequence

from msgspec import Struct

from runner.errors import InvalidValueError, NotFoundError
from runner.store import experiments
from runner.store.database import Database, Row
from runner.store.entities import LifecycleStage, LoggedModel, Metric, ModelStatus, NewModel, Page, View
from runner.store.filters import Kind, Vocabulary
from runner.store.names import make_name
from runner.store.queries import Query, find
from runner.store.row_helpers import checked_tags, chunks, experiment_number, now
from runner.store.rules import check_name, check_value
from runner.store.search import checked_limit, experiment_scope, view_scope
from runner.store.statements import Fragment, Searchable, ValueTable

MODELS = Searchable(
    table="models",
    vocabulary=Vocabulary(
        prefixes={
            "attributes": Kind.ATTRIBUTE,
            "attribute": Kind.ATTRIBUTE,
            "metrics": Kind.METRIC,
            "metric": Kind.METRIC,
            "params": Kind.PARAM,
            "param": Kind.PARAM,
            "tags": Kind.TAG,
            "tag": Kind.TAG,
        },
        attributes={
            "name": "name",
            "model_id": "model_id",
            "model_type": "model_type",
            "status": "status",
            "source_run_id": "source_run_id",
            "artifact_uri": "artifact_location",
            "artifact_location": "artifact_location",
            "experiment_id": "experiment_id",
            "creation_time": "creation_timestamp",
            "creation_timestamp": "creation_timestamp",
            "creation_timestamp_ms": "creation_timestamp",
            "last_updated_timestamp": "last_updated_timestamp",
            "last_updated_timestamp_ms": "last_updated_timestamp",
        },
        numbers=frozenset({"creation_timestamp", "last_updated_timestamp"}),
    ),
    columns={
        "name": "name",
        "model_id": "model_id",
        "model_type": "model_type",
        "status": "status",
        "source_run_id": "source_run_id",
        "artifact_location": "artifact_uri",
        "experiment_id": "experiment",
        "creation_timestamp": "created_at",
        "last_updated_timestamp": "updated_at",
    },
    nullable=frozenset({"source_run_id"}),
    values={
        Kind.METRIC: ValueTable(name="last_model_metrics", column="model"),
        Kind.PARAM: ValueTable(name="model_params", column="model"),
        Kind.TAG: ValueTable(name="model_tags", column="model"),
    },
    newest="created_at",
)


class ModelQuery(Struct, frozen=True, kw_only=True):
    """A search for logged models; without experiments, all are searched."""

    experiment_ids: tuple[str, ...] | None = None
    filter: str = ""
    order_by: tuple[str, ...] = ()
    limit: int = 100
    page_token: str | None = None


def create(db: Database, new: NewModel) -> LoggedModel:
    """Create a logged model and return it.

    Raises:
        NotFoundError: there is no such experiment.
        InvalidValueError: the experiment is deleted, or a name, parameter or tag is invalid.
    """
    name = make_name() if new.name is None else checked_model_name(new.name)
    model_id = f"m-{uuid.uuid4().hex}"
    moment = now()
    with db.transaction():
        experiment = experiments.get(db, new.experiment_id)
        if experiment.lifecycle_stage is not LifecycleStage.ACTIVE:
            raise InvalidValueError(f"The experiment '{experiment.name}' is deleted", hint="Restore it first.")
        columns = {
            "model_id": model_id,
            "experiment": int(experiment.id),
            "name": name,
            "model_type": new.model_type,
            "source_run_id": new.source_run_id,
            "artifact_uri": f"{experiment.artifact_location.rstrip('/')}/models/{model_id}/artifacts",
            "status": ModelStatus.PENDING.value,
            "created_at": moment,
            "updated_at": moment,
        }
        db.insert(
            f"INSERT INTO models ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *columns.values()
        )
        log_params(db, model_id, new.params)
        set_tags(db, model_id, new.tags)
        return get(db, model_id)


def get(db: Database, model_id: str) -> LoggedModel:
    """Return the logged model with this id.

    Raises:
        NotFoundError: there is no such model, or it is deleted.
    """
    return _load(db, [_number(db, model_id)])[0]


def finalize(db: Database, model_id: str, status: ModelStatus) -> LoggedModel:
    """Set the final status of a logged model and return the model.

    Raises:
        NotFoundError: there is no such model.
    """
    with db.transaction():
        number = _number(db, model_id)
        db.execute("UPDATE models SET status = ?, updated_at = ? WHERE id = ?", status.value, now(), number)
        return _load(db, [number])[0]


def delete(db: Database, model_id: str) -> None:
    """Mark a logged model as deleted.

    Raises:
        NotFoundError: there is no such model.
    """
    with db.transaction():
        number = _number(db, model_id)
        db.execute("UPDATE models SET lifecycle_stage = 'deleted', updated_at = ? WHERE id = ?", now(), number)


def log_params(db: Database, model_id: str, params: Mapping[str, str]) -> None:
    """Store parameters of a logged model.

    Raises:
        NotFoundError: there is no such model.
        InvalidValueError: a name or value is invalid.
    """
    pairs = [(check_name("parameter", key), check_value("parameter", key, value)) for key, value in params.items()]
    with db.transaction():
        number = _number(db, model_id)
        db.execute_many("INSERT OR REPLACE INTO model_params VALUES (?, ?, ?)", ((number, *pair) for pair in pairs))


def set_tags(db: Database, model_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a logged model.

    Raises:
        NotFoundError: there is no such model.
        InvalidValueError: a name or value is invalid.
    """
    pairs = checked_tags(tags)
    with db.transaction():
        number = _number(db, model_id)
        db.execute_many("INSERT OR REPLACE INTO model_tags VALUES (?, ?, ?)", ((number, *pair) for pair in pairs))


def delete_tag(db: Database, model_id: str, key: str) -> None:
    """Remove a tag of a logged model.

    Raises:
        NotFoundError: there is no such model, or no such tag.
    """
    with db.transaction():
        if not db.execute("DELETE FROM model_tags WHERE model = ? AND key = ?", _number(db, model_id), key):
            raise NotFoundError(f"The model '{model_id}' has no tag '{key}'")


def search(db: Database, query: ModelQuery) -> Page[LoggedModel]:
    """Return a page of logged models, newest first unless ordered otherwise.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    scope: list[Fragment] = [view_scope(View.ACTIVE)]
    if query.experiment_ids is not None:
        scope.append(experiment_scope([experiment_number(text) for text in query.experiment_ids]))
    prepared = Query(
        scope=tuple(scope),
        filter=query.filter,
        order_by=query.order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )
    found = find(db, MODELS, prepared)
    return Page(items=tuple(_load(db, found.numbers)), next_page_token=found.next_page_token)


def checked_model_name(name: str) -> str:
    """Return a valid model name; MLflow's rule, because names become part of paths and URIs.

    Raises:
        InvalidValueError: the name is invalid.
    """
    if not name or any(letter in name for letter in "/:.%\"'"):
        raise InvalidValueError(
            f"Invalid name of a model: '{name[:80]}'", hint="It must not be empty nor have any of / : . % \" '."
        )
    return check_name("model", name)


def _number(db: Database, model_id: str) -> int:
    rows = db.query("SELECT id FROM models WHERE model_id = ? AND lifecycle_stage = 'active'", model_id)
    if not rows:
        raise NotFoundError(f"There is no logged model '{model_id[:80]}'")
    return int(rows[0]["id"])


def _load(db: Database, numbers: Sequence[int]) -> list[LoggedModel]:
    found: dict[int, LoggedModel] = {}
    for piece, marks in chunks(numbers):
        values: dict[str, dict[int, dict[str, str]]] = {"model_params": {}, "model_tags": {}}
        for table, groups in values.items():
            for number, key, value in db.query(f"SELECT * FROM {table} WHERE model IN ({marks})", *piece):
                groups.setdefault(number, {})[key] = value
        metrics: dict[int, list[Metric]] = {}
        for row in db.query(f"SELECT * FROM model_metrics WHERE model IN ({marks})", *piece):
            metrics.setdefault(row["model"], []).append(_metric(row))
        for row in db.query(f"SELECT * FROM models WHERE id IN ({marks})", *piece):
            number = row["id"]
            params, tags = (groups.get(number, {}) for groups in values.values())
            found[number] = _model(row, params, tags, tuple(metrics.get(number, ())))
    return [found[number] for number in numbers if number in found]


def _metric(row: Row) -> Metric:
    return Metric(
        key=row["key"],
        value=float("nan") if row["value"] is None else row["value"],
        timestamp=row["timestamp"],
        step=row["step"],
        run_id=row["run_id"],
        dataset_name=row["dataset_name"] or None,
        dataset_digest=row["dataset_digest"] or None,
    )


def _model(row: Row, params: Mapping[str, str], tags: Mapping[str, str], metrics: tuple[Metric, ...]) -> LoggedModel:
    return LoggedModel(
        model_id=row["model_id"],
        experiment_id=str(row["experiment"]),
        name=row["name"],
        model_type=row["model_type"],
        source_run_id=row["source_run_id"],
        artifact_uri=row["artifact_uri"],
        status=ModelStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        params=params,
        tags=tags,
        metrics=metrics,
    )
