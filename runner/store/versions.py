"""Stores the versions of registered models, numbered from 1."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from runner.errors import InvalidValueError, NotFoundError
from runner.store import models, runs
from runner.store.database import Database, Row
from runner.store.entities import ModelStage, ModelVersion, NewVersion
from runner.store.row_helpers import checked_tags, chunks, now
from runner.store.rules import check_model_name

VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""The valid version numbers."""
_MODEL_URI = re.compile(r"models:/(?:(?P<model_id>m-[0-9a-f]{32})|(?P<name>[^/@]+)/(?P<version>[1-9][0-9]*))")
_RUN_URI = re.compile(r"runs:/(?P<run_id>[0-9a-f]{32})/(?P<path>.+)")
_COUNT_VERSION = "UPDATE registered_models SET last_version = last_version + 1, updated_at = ? WHERE id = ?"
_ARCHIVE = "UPDATE model_versions SET stage = 'Archived', updated_at = ? WHERE model = ? AND stage = ? AND id <> ?"


def create(db: Database, new: NewVersion) -> ModelVersion:
    """Register the next version of a model.

    Raises:
        NotFoundError: the registered model, or the object that the source names, does not exist.
        InvalidValueError: the source or a tag is invalid.
    """
    pairs = checked_tags(new.tags)
    if not new.source:
        raise InvalidValueError("The source of the model version is missing")
    with db.transaction():
        number = model_number(db, new.name)
        location, run_id = _find_location(db, new)
        moment = now()
        db.execute(_COUNT_VERSION, moment, number)
        columns = {
            "model": number,
            "version": db.query("SELECT last_version FROM registered_models WHERE id = ?", number)[0][0],
            "description": new.description or None,
            "source": new.source,
            "location": location,
            "run_id": run_id,
            "run_link": new.run_link or None,
            "model_id": new.model_id or None,
            "created_at": moment,
            "updated_at": moment,
        }
        row = db.insert(
            f"INSERT INTO model_versions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            *columns.values(),
        )
        db.execute_many("INSERT OR REPLACE INTO model_version_tags VALUES (?, ?, ?)", ((row, *pair) for pair in pairs))
        return load(db, [row])[0]


def get(db: Database, name: str, version: str | int) -> ModelVersion:
    """Return a model version.

    Raises:
        NotFoundError: there is no such model, or no such version of it.
        InvalidValueError: the number is invalid.
    """
    return load(db, [row_of(db, name, version)])[0]


def describe(db: Database, name: str, version: str | int, description: str | None) -> ModelVersion:
    """Replace the description of a model version."""
    with db.transaction():
        row = row_of(db, name, version)
        text = description or None
        db.execute("UPDATE model_versions SET description = ?, updated_at = ? WHERE id = ?", text, now(), row)
        return load(db, [row])[0]


def set_stage(
    db: Database, name: str, version: str | int, stage: str, *, archive_existing: bool = False
) -> ModelVersion:
    """Move a model version to a stage; ``archive_existing`` archives the other versions in it.

    Raises:
        NotFoundError: there is no such model or version.
        InvalidValueError: there is no such stage, or it does not support archiving.
    """
    target = stage_of(stage)
    if archive_existing and not target.is_active:
        raise InvalidValueError(
            f"Existing versions can't be archived for the stage '{target.value}'",
            hint="Staging and Production only.",
        )
    moment = now()
    with db.transaction():
        row = row_of(db, name, version)
        if archive_existing:
            db.execute(_ARCHIVE, moment, model_number(db, name), target.value, row)
        db.execute("UPDATE model_versions SET stage = ?, updated_at = ? WHERE id = ?", target.value, moment, row)
        db.execute("UPDATE registered_models SET updated_at = ? WHERE name = ?", moment, name)
        return load(db, [row])[0]


def delete(db: Database, name: str, version: str | int) -> None:
    """Remove a model version; its number is not used again."""
    with db.transaction():
        db.execute("DELETE FROM model_versions WHERE id = ?", row_of(db, name, version))
        db.execute("UPDATE registered_models SET updated_at = ? WHERE name = ?", now(), name)


def set_tag(db: Database, name: str, version: str | int, key: str, value: str) -> None:
    """Set a tag of a model version."""
    ((key, value),) = checked_tags([(key, value)])
    with db.transaction():
        row = row_of(db, name, version)
        db.execute("INSERT OR REPLACE INTO model_version_tags VALUES (?, ?, ?)", row, key, value)


def delete_tag(db: Database, name: str, version: str | int, key: str) -> None:
    """Remove a tag of a model version, if it has it."""
    with db.transaction():
        row = row_of(db, name, version)
        db.execute("DELETE FROM model_version_tags WHERE version = ? AND key = ?", row, key)


def stage_of(word: str) -> ModelStage:
    """Return the stage with a name, ignoring case.

    Raises:
        InvalidValueError: there is no such stage.
    """
    for stage in ModelStage:
        if stage.value.lower() == word.lower():
            return stage
    names = ", ".join(stage.value for stage in ModelStage)
    raise InvalidValueError(f"Invalid stage of a model version: '{word[:80]}'", hint=f"There are {names}.")


def load(db: Database, rows: Sequence[int]) -> list[ModelVersion]:
    """Return the model versions with these row numbers, in this order."""
    found: dict[int, ModelVersion] = {}
    for piece, marks in chunks(rows):
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in db.query(f"SELECT * FROM model_version_tags WHERE version IN ({marks})", *piece):
            tags.setdefault(number, {})[key] = value
        aliases: dict[int, list[str]] = {}
        named = "SELECT v.id, a.alias FROM model_aliases a JOIN model_versions v USING (model, version)"
        for number, alias in db.query(f"{named} WHERE v.id IN ({marks}) ORDER BY a.alias", *piece):
            aliases.setdefault(number, []).append(alias)
        for row in db.query(f"SELECT * FROM named_versions WHERE id IN ({marks})", *piece):
            number = row["id"]
            found[number] = _version(row, tags.get(number, {}), tuple(aliases.get(number, ())))
    return [found[number] for number in rows if number in found]


def model_number(db: Database, name: str) -> int:
    """Return the row number of a registered model.

    Raises:
        NotFoundError: there is no model with this name.
    """
    rows = db.query("SELECT id FROM registered_models WHERE name = ?", check_model_name(name))
    if not rows:
        hint = "See `proj models list`."
        raise NotFoundError(f"Registered Model with name={name} not found", hint=hint)
    return int(rows[0]["id"])


def row_of(db: Database, name: str, version: str | int) -> int:
    """Return the row number of a model version.

    Raises:
        NotFoundError: there is no such model or version.
        InvalidValueError: the number is invalid.
    """
    if not VERSION.fullmatch(str(version)):
        raise InvalidValueError(f"'{str(version)[:40]}' is not a valid version number of a model")
    rows = db.query(
        "SELECT id FROM model_versions WHERE model = ? AND version = ?", model_number(db, name), int(version)
    )
    if not rows:
        raise NotFoundError(f"Model Version (name={name}, version={version}) not found")
    return int(rows[0]["id"])


def _find_location(db: Database, new: NewVersion) -> tuple[str, str | None]:
    """Return the location of a new version's files, and the run that made them if known."""
    if new.source.startswith("runs:"):
        of_run = _RUN_URI.fullmatch(new.source)
        if of_run is None:
            raise InvalidValueError(f"Invalid source of a model version: '{new.source[:120]}'")
        run = runs.get(db, of_run["run_id"])
        path = quote(of_run["path"]) if run.artifact_uri.startswith("file:") else of_run["path"]
        return f"{run.artifact_uri.rstrip('/')}/{path}", new.run_id or run.run_id
    if not new.source.startswith("models:"):
        maker = models.get(db, new.model_id).source_run_id if new.model_id else None
        return new.source, new.run_id or maker
    of_model = _MODEL_URI.fullmatch(new.source)
    if of_model is None:
        raise InvalidValueError(f"Invalid source of a model version: '{new.source[:120]}'")
    if of_model["name"]:
        copied = get(db, of_model["name"], of_model["version"])
        return copied.location, new.run_id or copied.run_id
    model = models.get(db, of_model["model_id"])
    return model.artifact_uri, new.run_id or model.source_run_id


def _version(row: Row, tags: Mapping[str, str], aliases: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        name=row["name"],
        version=row["version"],
        stage=ModelStage(row["stage"]),
        description=row["description"],
        source=row["source"],
        location=row["location"],
        run_id=row["run_id"],
        run_link=row["run_link"],
        model_id=row["model_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=tags,
        aliases=aliases,
    )
