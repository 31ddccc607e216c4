"""Provides queries and statements shared by the modules of the store."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from runner.base.tags import RUN_NAME_TAG
from runner.errors import InvalidValueError, NotFoundError
from runner.store.database import Database
from runner.store.entities import View
from runner.store.rules import check_name, check_value

RUN_ID = re.compile(r"[0-9a-f]{32}")

_CHUNK = 500
"""Maximum number of values bound in one statement; SQLite before 3.32 allows 999."""

Value = TypeVar("Value")

VIEWS = {View.ACTIVE: ("active",), View.DELETED: ("deleted",), View.ALL: ("active", "deleted")}
"""The lifecycle stages that each view shows."""


def now() -> int:
    """Return the time in milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000


def chunks(values: Sequence[Value]) -> Iterator[tuple[Sequence[Value], str]]:
    """Split values into chunks for one statement, each with its placeholders."""
    for start in range(0, len(values), _CHUNK):
        piece = values[start : start + _CHUNK]
        yield piece, ", ".join("?" * len(piece))


def run_number(db: Database, run_id: str, *, active: bool = False) -> int:
    """Return the row number of a run.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted, and ``active`` is set.
    """
    rows = db.query("SELECT id, lifecycle_stage FROM runs WHERE run_id = ?", run_id)
    if not rows:
        raise NotFoundError(f"There is no run '{run_id}'", hint="See `proj list`.")
    if active and rows[0]["lifecycle_stage"] != "active":
        raise InvalidValueError(f"The run '{run_id}' is deleted", hint="Restore it first.")
    return int(rows[0]["id"])


def experiment_number(experiment_id: str) -> int:
    """Return the row number for an experiment id.

    Raises:
        NotFoundError: the id is not valid.
    """
    if not (experiment_id.isascii() and experiment_id.isdigit() and len(experiment_id) < 19):  # noqa: PLR2004
        raise NotFoundError(f"There is no experiment with the id '{experiment_id[:60]}'")
    return int(experiment_id)


def checked_tags(tags: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return tags as pairs after checking their names and values.

    Raises:
        InvalidValueError: a name or value is invalid.
    """
    pairs = tags.items() if isinstance(tags, Mapping) else tags
    return [(check_name("tag", key), check_value("tag", key, value)) for key, value in pairs]


def write_run_tags(db: Database, run: int, tags: Sequence[tuple[str, str]]) -> None:
    """Set tags of a run and keep its name equal to the tag that MLflow uses for it."""
    db.execute_many("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", ((run, key, value) for key, value in tags))
    names = [value for key, value in tags if key == RUN_NAME_TAG]
    if names:
        db.execute("UPDATE runs SET name = ? WHERE id = ?", names[-1], run)
