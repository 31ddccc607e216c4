"""Names in the store for who is typing: read in a moment, without waiting for anybody or changing anything."""

from collections.abc import Sequence
from pathlib import Path

from runner.store.read_only import query_once

_LIMIT = 50
_PATIENCE = 0.2
"""Seconds to wait for a lock."""

Named = tuple[str, str]
"""What can be typed, and a word about it."""


def run_names(database: Path, start: str) -> list[Named]:
    """Return ids and names of runs that begin so, newest first; a short id is enough where only one run has it."""
    by_id = _ask(
        database,
        "SELECT substr(run_id, 1, 12), name || ', ' || status FROM runs WHERE lifecycle_stage = 'active'"
        " AND run_id >= ? AND run_id < ? || 'g' ORDER BY started_at DESC LIMIT ?",
        (start, start, _LIMIT),
    )
    by_name = _ask(
        database,
        "SELECT name, substr(run_id, 1, 12) || ', ' || status FROM runs WHERE lifecycle_stage = 'active'"
        " AND substr(name, 1, length(?)) = ? AND name <> '' ORDER BY started_at DESC LIMIT ?",
        (start, start, _LIMIT if start else 0),
    )
    return [*by_id, *by_name]


def experiment_names(database: Path, start: str) -> list[Named]:
    """Return the names of experiments that begin so."""
    sql = "SELECT name, lifecycle_stage FROM experiments WHERE substr(name, 1, length(?)) = ? ORDER BY name LIMIT ?"
    return _ask(database, sql, (start, start, _LIMIT))


def model_names(database: Path, start: str) -> list[Named]:
    """Return the names of registered models that begin so."""
    sql = (
        "SELECT name, coalesce(description, '') FROM registered_models"
        " WHERE substr(name, 1, length(?)) = ? ORDER BY name LIMIT ?"
    )
    return _ask(database, sql, (start, start, _LIMIT))


def metric_names(database: Path, run: str, start: str) -> list[Named]:
    """Return the names of the metrics of a run, by the beginning of its id or its name, that begin so."""
    sql = (
        "SELECT DISTINCT m.key, '' FROM metrics m JOIN runs r ON r.id = m.run"
        " WHERE (substr(r.run_id, 1, length(?)) = ? OR r.name = ?) AND substr(m.key, 1, length(?)) = ?"
        " ORDER BY m.key LIMIT ?"
    )
    return _ask(database, sql, (run, run, run, start, start, _LIMIT))


def _ask(database: Path, sql: str, args: Sequence[object]) -> list[Named]:
    """Ask a store as it is; one that is not there, busy, damaged or of another version has nothing to say."""
    return [(str(name), str(about)) for name, about in query_once(database, sql, tuple(args), _PATIENCE)]
