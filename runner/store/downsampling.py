"""Reduces the history of a metric to a limited number of points."""

import math
from collections.abc import Iterator

from msgspec import Struct

from runner.base.suggestions import nearest
from runner.errors import NotFoundError
from runner.store.database import Database, Row
from runner.store.entities import Metric
from runner.store.row_helpers import run_number
from runner.store.values import MAX_HISTORY, metric_history


class SampledHistory(Struct, frozen=True, kw_only=True):
    """The downsampled history of a metric; ``count`` and the other totals cover all points."""

    points: tuple[Metric, ...]
    count: int
    minimum: float | None
    maximum: float | None


EVERY_STEP = (-(2**63), 2**63 - 1)

# One row-value comparison, which the database evaluates with its index.
_NAMES = "SELECT key FROM metrics WHERE run = ?"
_WITHIN = "FROM points WHERE run = ? AND key = ? AND step <= ? AND (step, timestamp, value, nan) > (?, ?, ?, ?)"
_ORDERED = "ORDER BY step, timestamp, value, nan"
_FIRST = (-(2**63), -math.inf, -1)


def all_points(db: Database, run_id: str, key: str, page: int = MAX_HISTORY) -> Iterator[Metric]:
    """Yield all points of a metric by step, then time, then value, read page by page.

    Raises:
        NotFoundError: there is no such run.
    """
    token: str | None = None
    while True:
        found = metric_history(db, run_id, key, page, token)
        yield from found.items
        token = found.next_page_token
        if token is None:
            return


def downsampled(db: Database, run_id: str, key: str, limit: int) -> SampledHistory:
    """Return a metric's history as at most ``limit`` evenly spaced points, including the first and the last.

    Raises:
        NotFoundError: there is no such run, or it has no such metric.
    """
    row = db.query(
        "SELECT count(*) AS count, min(CASE WHEN nan THEN NULL ELSE value END) AS least,"
        " max(CASE WHEN nan THEN NULL ELSE value END) AS most FROM points WHERE run = ? AND key = ?",
        run_number(db, run_id),
        key,
    )[0]
    if not row["count"]:
        near = nearest(key, [found["key"] for found in db.query(_NAMES, run_number(db, run_id))])
        hint = f"Did you mean '{near}'?" if near else f"See `proj show {run_id[:8]}`."
        raise NotFoundError(f"The run '{run_id[:8]}' has no metric '{key}'", hint=hint)
    points = sampled(db, run_id, key, max(2, limit))
    return SampledHistory(points=points, count=row["count"], minimum=row["least"], maximum=row["most"])


def sampled(db: Database, run_id: str, key: str, limit: int, steps: tuple[int, int] = EVERY_STEP) -> tuple[Metric, ...]:
    """Return at most ``limit`` evenly spaced points of a metric within a range of steps.

    A limit of 1 returns the last point. The database skips the points between, so memory use does not grow with them.

    Raises:
        NotFoundError: there is no such run.
    """
    start, end = steps
    series = (run_number(db, run_id), key, end)
    every = (*series, start, *_FIRST)
    (count,) = db.query(f"SELECT count(*) {_WITHIN}", *every)[0]
    if count <= limit:
        return tuple(_metric(key, row) for row in db.query(f"SELECT * {_WITHIN} {_ORDERED}", *every))
    last = db.query(f"SELECT * {_WITHIN} ORDER BY step DESC, timestamp DESC, value DESC, nan DESC LIMIT 1", *every)
    gaps = limit - 1
    offsets = [number * (count - 1) // gaps for number in range(gaps)]
    rows: list[Row] = []
    for before, after in zip((-1, *offsets), offsets, strict=False):
        bound = tuple(rows[-1])[2:] if rows else (start, *_FIRST)
        rows += db.query(f"SELECT * {_WITHIN} {_ORDERED} LIMIT 1 OFFSET ?", *series, *bound, after - before - 1)
    return tuple(_metric(key, row) for row in (*rows, *last))


def _metric(key: str, row: Row) -> Metric:
    value = math.nan if row["nan"] else row["value"]
    return Metric(key=key, value=value, timestamp=row["timestamp"], step=row["step"])
