"""Finds runs by their datasets, models or environments."""

from collections.abc import Sequence

from runner.store.database import Database
from runner.store.row_helpers import chunks


def runs_with_links(db: Database, run_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the runs that have inputs or outputs in `runner.store.lineage`."""
    found: set[str] = set()
    for piece, marks in chunks(run_ids):
        rows = db.query(
            f"SELECT run_id FROM runs r WHERE run_id IN ({marks}) AND"
            " (EXISTS (SELECT 1 FROM inputs WHERE run = r.id) OR EXISTS (SELECT 1 FROM model_uses WHERE run = r.id))",
            *piece,
        )
        found.update(row["run_id"] for row in rows)
    return frozenset(found)


def runs_by_prefix(db: Database) -> dict[str, tuple[str, ...]]:
    """Return the ids of the runs that used each environment prefix or image, oldest first."""
    found: dict[str, list[str]] = {}
    question = (
        "SELECT run_id, coalesce(json_extract(document, '$.environment.prefix'),"
        " json_extract(document, '$.environment.image')) AS prefix"
        " FROM details JOIN runs ON runs.id = details.run WHERE prefix IS NOT NULL ORDER BY runs.id"
    )
    for row in db.query(question):
        found.setdefault(row["prefix"], []).append(row["run_id"])
    return {prefix: tuple(ids) for prefix, ids in found.items()}
