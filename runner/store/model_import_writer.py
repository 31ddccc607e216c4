"""Writes imported logged models and registered models."""

import re
from collections.abc import Mapping, Sequence

from runner.errors import InvalidValueError
from runner.store.database import Database, Row
from runner.store.entities import LoggedModel, ModelVersion, RegisteredModel
from runner.store.import_writer import Change
from runner.store.models import checked_model_name
from runner.store.registry import check_alias
from runner.store.row_helpers import experiment_number
from runner.store.rules import check_model_name
from runner.store.values import UPSERT_MODEL_METRIC, stored_value
from runner.store.versions import VERSION

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


def is_model_id(text: str) -> bool:
    """Return whether a text is a valid id of a logged model."""
    return _MODEL_ID.fullmatch(text) is not None


def check_model_id(model_id: str) -> None:
    """Refuse an invalid id of a logged model, because ids become part of paths.

    Raises:
        InvalidValueError: the id is invalid.
    """
    if not is_model_id(model_id):
        raise InvalidValueError(f"'{model_id[:80]}' is not a valid id of a logged model")


def find_model(db: Database, model_id: str) -> Row | None:
    """Return the row of a logged model, deleted or not, and whether it was imported; None if there is none."""
    rows = db.query(
        "SELECT id, experiment, updated_at, artifact_uri, o.model IS NOT NULL AS came"
        " FROM models m LEFT JOIN model_origins o ON o.model = m.id WHERE model_id = ?",
        model_id,
    )
    return rows[0] if rows else None


def import_model(db: Database, model: LoggedModel, origin: str, *, deleted: bool = False) -> Change:
    """Insert an imported logged model, or update it if the other store's version is newer.

    A model that was not imported is left unchanged.

    Raises:
        InvalidValueError: the id is invalid.
    """
    check_model_id(model.model_id)
    checked_model_name(model.name)
    with db.transaction():
        known = find_model(db, model.model_id)
        if known is not None and not known["came"]:
            return Change.OWN
        if known is not None and known["updated_at"] >= model.updated_at:
            return Change.SAME
        number = _insert_model(db, model) if known is None else int(known["id"])
        db.execute("INSERT OR REPLACE INTO model_origins VALUES (?, ?)", number, origin)
        stage = "deleted" if deleted else "active"
        facts = (model.name, model.status.value, stage, model.updated_at)
        db.execute(
            "UPDATE models SET name = ?, status = ?, lifecycle_stage = ?, updated_at = ? WHERE id = ?", *facts, number
        )
        for table, pairs in (("model_params", model.params), ("model_tags", model.tags)):
            rows = ((number, key, value) for key, value in pairs.items())
            db.execute_many(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)
        for point in model.metrics:
            key_columns = (number, point.key, point.run_id or "", point.dataset_name or "", point.dataset_digest or "")
            db.execute(UPSERT_MODEL_METRIC, *key_columns, stored_value(point), point.timestamp, point.step)
    return Change.ADDED if known is None else Change.UPDATED


def import_registered(db: Database, model: RegisteredModel, last_version: int) -> Change:
    """Insert an imported registered model without its versions, or add its missing values.

    Raises:
        InvalidValueError: the name or the last version number is invalid.
    """
    if last_version and not VERSION.fullmatch(str(last_version)):
        raise InvalidValueError(f"{last_version} is not a valid version number of a model")
    with db.transaction():
        rows = db.query("SELECT id, updated_at FROM registered_models WHERE name = ?", check_model_name(model.name))
        number = rows[0]["id"] if rows else _insert_registered(db, model)
        db.execute(
            "UPDATE registered_models SET last_version = max(last_version, ?) WHERE id = ?", last_version, number
        )
        tags = ((number, key, value) for key, value in model.tags.items())
        changed = db.execute_many("INSERT OR IGNORE INTO registered_model_tags VALUES (?, ?, ?)", tags)
        changed += _describe(db, "registered_models", number, (model.description, model.updated_at))
    if not rows:
        return Change.ADDED
    return Change.UPDATED if changed else Change.SAME


def import_aliases(db: Database, model: RegisteredModel) -> tuple[str, ...]:
    """Store the aliases of versions that are present; return aliases that name another version here.

    Raises:
        InvalidValueError: an alias is invalid.
    """
    taken = []
    with db.transaction():
        number = db.query("SELECT id FROM registered_models WHERE name = ?", model.name)[0]["id"]
        for alias, version in model.aliases.items():
            check_alias(alias)
            if not db.query("SELECT 1 FROM model_versions WHERE model = ? AND version = ?", number, version):
                continue
            db.execute("INSERT OR IGNORE INTO model_aliases VALUES (?, ?, ?)", number, alias, version)
            here = db.query("SELECT version FROM model_aliases WHERE model = ? AND alias = ?", number, alias)
            if here[0]["version"] != version:
                taken.append(alias)
    return tuple(taken)


def import_version(db: Database, version: ModelVersion) -> Change:
    """Insert an imported model version under its own number, or update it.

    A number that another version uses here is left unchanged: `Change.OWN`.

    Raises:
        InvalidValueError: the number is invalid.
    """
    if not VERSION.fullmatch(str(version.version)):
        raise InvalidValueError(f"{version.version} is not a valid version number of a model")
    with db.transaction():
        model = db.query("SELECT id FROM registered_models WHERE name = ?", version.name)[0]["id"]
        known = db.query(
            "SELECT id, source, run_id, updated_at FROM model_versions WHERE model = ? AND version = ?",
            model,
            version.version,
        )
        if known and (known[0]["source"], known[0]["run_id"]) != (version.source, version.run_id):
            return Change.OWN
        if known and known[0]["updated_at"] >= version.updated_at:
            return Change.SAME
        number = known[0]["id"] if known else _insert_version(db, model, version)
        facts = (version.stage.value, version.description, version.updated_at)
        db.execute("UPDATE model_versions SET stage = ?, description = ?, updated_at = ? WHERE id = ?", *facts, number)
        tags = ((number, key, value) for key, value in version.tags.items())
        db.execute_many("INSERT OR REPLACE INTO model_version_tags VALUES (?, ?, ?)", tags)
    return Change.UPDATED if known else Change.ADDED


def _insert_model(db: Database, model: LoggedModel) -> int:
    columns = {
        "model_id": model.model_id,
        "experiment": experiment_number(model.experiment_id),
        "name": model.name,
        "model_type": model.model_type,
        "source_run_id": model.source_run_id,
        "artifact_uri": model.artifact_uri,
        "status": model.status.value,
        "created_at": model.created_at,
        "updated_at": model.updated_at,
    }
    return _insert(db, "models", columns)


def _insert_registered(db: Database, model: RegisteredModel) -> int:
    columns = {
        "name": model.name,
        "description": model.description,
        "created_at": model.created_at,
        "updated_at": model.updated_at,
    }
    return _insert(db, "registered_models", columns)


def _insert_version(db: Database, model: int, version: ModelVersion) -> int:
    columns = {
        "model": model,
        "version": version.version,
        "source": version.source,
        "location": version.location,
        "run_id": version.run_id,
        "run_link": version.run_link,
        "model_id": version.model_id,
        "created_at": version.created_at,
        "updated_at": version.updated_at,
    }
    return _insert(db, "model_versions", columns)


def _insert(db: Database, table: str, columns: Mapping[str, object]) -> int:
    return db.insert(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *columns.values()
    )


def _describe(db: Database, table: str, number: int, facts: Sequence[object]) -> int:
    """Replace the description if the other store's version is newer."""
    return db.execute(
        f"UPDATE {table} SET description = ?, updated_at = ? WHERE id = ? AND updated_at < ?", *facts, number, facts[1]
    )
