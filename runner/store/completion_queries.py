"""Runs read-only queries for shell completion, without waiting for locks."""

from collections.abc import Sequence
from pathlib import Path

from runner.store.read_only import query_once

_LIMIT = 50
_PATIENCE = 0.2
"""Seconds to wait for a lock."""

Named = tuple[str, str]
"""A completion and its description."""


def run_names(database: Path, start: str, stage: str = "active") -> list[Named]:
    """Return ids and names of runs with this prefix, newest first; unique ids are shortened."""
    by_id = _ask(
        database,
        "SELECT substr(run_id, 1, 12), name || ', ' || status FROM runs WHERE lifecycle_stage = ?"
        " AND run_id >= ? AND run_id < ? || 'g' ORDER BY started_at DESC LIMIT ?",
        (stage, start, start, _LIMIT),
    )
    by_name = _ask(
        database,
        "SELECT name, substr(run_id, 1, 12) || ', ' || status FROM runs WHERE lifecycle_stage = ?"
        " AND substr(name, 1, length(?)) = ? AND name <> '' ORDER BY started_at DESC LIMIT ?",
        (stage, start, start, _LIMIT if start else 0),
    )
    return [*by_id, *by_name]


def experiment_names(database: Path, start: str) -> list[Named]:
    """Return the names of experiments with this prefix."""
    sql = "SELECT name, lifecycle_stage FROM experiments WHERE substr(name, 1, length(?)) = ? ORDER BY name LIMIT ?"
    return _ask(database, sql, (start, start, _LIMIT))


def model_names(database: Path, start: str) -> list[Named]:
    """Return the names of registered models with this prefix."""
    sql = (
        "SELECT name, coalesce(description, '') FROM registered_models"
        " WHERE substr(name, 1, length(?)) = ? ORDER BY name LIMIT ?"
    )
    return _ask(database, sql, (start, start, _LIMIT))


def metric_names(database: Path, run: str, start: str) -> list[Named]:
    """Return the names of a run's metrics with this prefix; the run is given by an id prefix or its name."""
    sql = (
        "SELECT DISTINCT m.key, '' FROM metrics m JOIN runs r ON r.id = m.run"
        " WHERE (substr(r.run_id, 1, length(?)) = ? OR r.name = ?) AND substr(m.key, 1, length(?)) = ?"
        " ORDER BY m.key LIMIT ?"
    )
    return _ask(database, sql, (run, run, run, start, start, _LIMIT))


def _ask(database: Path, sql: str, args: Sequence[object]) -> list[Named]:
    """Return the rows of a query; empty if the store is absent, busy, damaged or of another version."""
    return [(str(name), str(about)) for name, about in query_once(database, sql, tuple(args), _PATIENCE)]
