"""Finds what belongs to a run: nested runs, model versions, the metric that was logged first."""

from collections.abc import Sequence

from runner.base.tags import PARENT_TAG
from runner.store.database import Database
from runner.store.row_helpers import chunks


def version_numbers(db: Database, run_id: str) -> list[int]:
    """Return the row numbers of the model versions that were made from a run, oldest first."""
    return [
        row["id"] for row in db.query("SELECT id FROM model_versions WHERE run_id = ? ORDER BY created_at, id", run_id)
    ]


def child_numbers(db: Database, parents: Sequence[str]) -> list[int]:
    """Return the row numbers of the active runs that are nested directly in these runs, oldest first."""
    found: list[tuple[int, int]] = []
    for piece, marks in chunks(parents):
        # The index on values holds their first 64 characters; a run id has 32.
        rows = db.query(
            "SELECT r.started_at, r.id FROM tags t JOIN runs r ON r.id = t.run WHERE t.key = ?"
            f" AND substr(t.value, 1, 64) IN ({marks}) AND r.lifecycle_stage = 'active'",
            PARENT_TAG,
            *piece,
        )
        found += [(row[0], row[1]) for row in rows]
    return [number for _, number in sorted(found)]


def count_children(db: Database, parents: Sequence[str]) -> dict[str, int]:
    """Return how many active runs are nested directly in each of these runs."""
    found: dict[str, int] = {}
    for piece, marks in chunks(parents):
        rows = db.query(
            "SELECT substr(t.value, 1, 64), count(*) FROM tags t JOIN runs r ON r.id = t.run WHERE t.key = ?"
            f" AND substr(t.value, 1, 64) IN ({marks}) AND r.lifecycle_stage = 'active' GROUP BY 1",
            PARENT_TAG,
            *piece,
        )
        found.update((str(row[0]), int(row[1])) for row in rows)
    return found


def first_metric(db: Database, run_id: str) -> str | None:
    """Return the metric with the earliest point of a run, or None if it has no metrics."""
    rows = db.query(
        "SELECT p.key FROM metrics m JOIN points p ON p.run = m.run AND p.key = m.key"
        " WHERE m.run = (SELECT id FROM runs WHERE run_id = ?)"
        " AND p.step = (SELECT min(step) FROM points WHERE run = m.run AND key = m.key)"
        " ORDER BY p.timestamp, p.key LIMIT 1",
        run_id,
    )
    return str(rows[0][0]) if rows else None
