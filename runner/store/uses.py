"""Which runs read datasets or models, or made models: most did not, and need not be asked one by one."""

from collections.abc import Sequence

from runner.store.database import Database
from runner.store.rows import chunks


def runs_with_uses(db: Database, run_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the runs that `runner.store.lineage` has something about."""
    found: set[str] = set()
    for piece, marks in chunks(run_ids):
        rows = db.query(
            f"SELECT run_id FROM runs r WHERE run_id IN ({marks}) AND"
            " (EXISTS (SELECT 1 FROM inputs WHERE run = r.id) OR EXISTS (SELECT 1 FROM model_uses WHERE run = r.id))",
            *piece,
        )
        found.update(row["run_id"] for row in rows)
    return frozenset(found)
