"""Stores registered models with tags and aliases; their versions are in `runner.store.versions`."""

import re
from collections.abc import Mapping, Sequence

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.store import versions
from runner.store.database import Database
from runner.store.entities import ModelStage, ModelVersion, RegisteredModel
from runner.store.row_helpers import checked_tags, chunks, now
from runner.store.rules import check_model_name
from runner.store.versions import model_number

LATEST = "latest"
"""The alias that always means the latest version."""

_ALIAS = re.compile(r"[\w\-]{1,255}")
_VERSION_ALIAS = re.compile(r"[vV]\d+")


def create(db: Database, name: str, description: str | None = None, tags: Mapping[str, str] = {}) -> RegisteredModel:
    """Create a registered model without versions.

    Raises:
        AlreadyExistsError: the name is in use.
        InvalidValueError: the name or a tag is invalid.
    """
    pairs = checked_tags(tags)
    moment = now()
    with db.transaction():
        _refuse_taken(db, check_model_name(name))
        number = db.insert(
            "INSERT INTO registered_models (name, description, created_at, updated_at) VALUES (?, ?, ?, ?)",
            name,
            description or None,
            moment,
            moment,
        )
        db.execute_many("INSERT OR REPLACE INTO registered_model_tags VALUES (?, ?, ?)", ((number, *p) for p in pairs))
        return load(db, [number])[0]


def get(db: Database, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises:
        NotFoundError: there is no model with this name.
    """
    return load(db, [model_number(db, name)])[0]


def rename(db: Database, name: str, new_name: str) -> RegisteredModel:
    """Rename a registered model, including its versions.

    Raises:
        NotFoundError: there is no model with this name.
        AlreadyExistsError: another model has the new name.
        InvalidValueError: the new name is invalid.
    """
    check_model_name(new_name)
    with db.transaction():
        number = model_number(db, name)
        if new_name != name:
            _refuse_taken(db, new_name)
        moment = now()
        db.execute("UPDATE registered_models SET name = ?, updated_at = ? WHERE id = ?", new_name, moment, number)
        db.execute("UPDATE model_versions SET updated_at = ? WHERE model = ?", moment, number)
        return load(db, [number])[0]


def describe(db: Database, name: str, description: str | None) -> RegisteredModel:
    """Replace the description of a registered model."""
    with db.transaction():
        number = model_number(db, name)
        text = description or None
        db.execute("UPDATE registered_models SET description = ?, updated_at = ? WHERE id = ?", text, now(), number)
        return load(db, [number])[0]


def delete(db: Database, name: str) -> None:
    """Remove a registered model with its versions; the files of the versions stay."""
    with db.transaction():
        db.execute("DELETE FROM registered_models WHERE id = ?", model_number(db, name))


def set_tag(db: Database, name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    ((key, value),) = checked_tags([(key, value)])
    with db.transaction():
        db.execute("INSERT OR REPLACE INTO registered_model_tags VALUES (?, ?, ?)", model_number(db, name), key, value)


def delete_tag(db: Database, name: str, key: str) -> None:
    """Remove a tag of a registered model, if it has it."""
    with db.transaction():
        db.execute("DELETE FROM registered_model_tags WHERE model = ? AND key = ?", model_number(db, name), key)


def get_by_alias(db: Database, name: str, alias: str) -> ModelVersion:
    """Return the model version for an alias; ``latest`` is always the latest version.

    Raises:
        NotFoundError: there is no such model, or it has no versions.
        InvalidValueError: the model has no such alias.
    """
    number = model_number(db, name)
    if alias.lower() == LATEST:
        rows = db.query("SELECT id FROM model_versions WHERE model = ? ORDER BY version DESC LIMIT 1", number)
        if not rows:
            raise NotFoundError(f"The registered model '{name}' has no versions")
    else:
        named = "SELECT v.id FROM model_aliases a JOIN model_versions v USING (model, version)"
        rows = db.query(f"{named} WHERE a.model = ? AND a.alias = ?", number, alias)
        if not rows:
            # MLflow's error code for this; its clients distinguish it from a missing model.
            raise InvalidValueError(f"Registered model alias {alias} not found.")
    return versions.load(db, [rows[0]["id"]])[0]


def latest_versions(db: Database, name: str, stages: Sequence[str] = ()) -> tuple[ModelVersion, ...]:
    """Return the latest version of each stage, or of the given stages.

    Raises:
        NotFoundError: there is no such model.
        InvalidValueError: there is no such stage.
    """
    wanted = {versions.stage_of(word) for word in stages} or set(ModelStage)
    return tuple(version for version in get(db, name).latest if version.stage in wanted)


def set_alias(db: Database, name: str, alias: str, version: str | int) -> None:
    """Set an alias to a version of a model; an existing alias is moved.

    Raises:
        NotFoundError: there is no such model or version.
        InvalidValueError: the alias is invalid.
    """
    check_alias(alias)
    if alias.lower() == LATEST or _VERSION_ALIAS.fullmatch(alias):
        raise InvalidValueError(f"The alias '{alias}' is reserved")
    with db.transaction():
        number = int(
            db.query("SELECT version FROM model_versions WHERE id = ?", versions.row_of(db, name, version))[0][0]
        )
        db.execute("INSERT OR REPLACE INTO model_aliases VALUES (?, ?, ?)", model_number(db, name), alias, number)


def delete_alias(db: Database, name: str, alias: str) -> None:
    """Remove an alias of a model, if it has it."""
    check_alias(alias)
    with db.transaction():
        db.execute("DELETE FROM model_aliases WHERE model = ? AND alias = ?", model_number(db, name), alias)


def load(db: Database, numbers: Sequence[int]) -> list[RegisteredModel]:
    """Return the registered models with these row numbers, in this order."""
    found: dict[int, RegisteredModel] = {}
    for piece, marks in chunks(numbers):
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in db.query(f"SELECT * FROM registered_model_tags WHERE model IN ({marks})", *piece):
            tags.setdefault(number, {})[key] = value
        aliases: dict[int, dict[str, int]] = {}
        for number, alias, version in db.query(f"SELECT * FROM model_aliases WHERE model IN ({marks})", *piece):
            aliases.setdefault(number, {})[alias] = version
        latest = _latest(db, piece, marks)
        for row in db.query(f"SELECT * FROM registered_models WHERE id IN ({marks})", *piece):
            number = row["id"]
            found[number] = RegisteredModel(
                name=row["name"],
                description=row["description"],
                created_at=row["created_at"],
                updated_at=row["updated_at"],
                tags=tags.get(number, {}),
                aliases=aliases.get(number, {}),
                latest=tuple(latest.get(number, ())),
            )
    return [found[number] for number in numbers if number in found]


def _latest(db: Database, piece: Sequence[int], marks: str) -> dict[int, list[ModelVersion]]:
    rows = db.query(
        f"SELECT model, id, max(version) FROM model_versions WHERE model IN ({marks}) GROUP BY model, stage ORDER BY 3",
        *piece,
    )
    found = versions.load(db, [row["id"] for row in rows])
    groups: dict[int, list[ModelVersion]] = {}
    for row, version in zip(rows, found, strict=True):
        groups.setdefault(row["model"], []).append(version)
    return groups


def _refuse_taken(db: Database, name: str) -> None:
    if db.query("SELECT 1 FROM registered_models WHERE name = ?", name):
        raise AlreadyExistsError(f"Registered Model (name={name}) already exists.")


def check_alias(alias: str) -> None:
    """Refuse an invalid alias.

    Raises:
        InvalidValueError: the alias has invalid or too many characters.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidValueError(
            f"Invalid alias: '{alias[:80]}'", hint="An alias has up to 255 letters, digits, underscores and dashes."
        )
