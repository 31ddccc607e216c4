"""Histories of metrics, thinned out to what a reader can take in."""

from collections.abc import Iterator

from msgspec import Struct

from runner.errors import NotFoundError
from runner.store.database import Database
from runner.store.entities import Metric
from runner.store.rows import run_number
from runner.store.values import metric_history


class Curve(Struct, frozen=True, kw_only=True):
    """The course of a metric: some of its points, and what is true of all of them. ``count`` is of all points."""

    points: tuple[Metric, ...]
    count: int
    minimum: float | None
    maximum: float | None


def all_points(db: Database, run_id: str, key: str) -> Iterator[Metric]:
    """Yield the points of a metric by step, then time, then value, however many there are.

    Raises:
        NotFoundError: there is no such run.
    """
    token: str | None = None
    while True:
        page = metric_history(db, run_id, key, page_token=token)
        yield from page.items
        token = page.next_page_token
        if token is None:
            return


def thinned(db: Database, run_id: str, key: str, limit: int) -> Curve:
    """Return a metric's course as at most ``limit`` points, evenly taken from first to last, with both of these.

    The database picks the points, so a million of them cost no memory.

    Raises:
        NotFoundError: there is no such run, or it has no such metric.
    """
    run = run_number(db, run_id)
    row = db.query(
        "SELECT count(*) AS count, min(CASE WHEN nan THEN NULL ELSE value END) AS least,"
        " max(CASE WHEN nan THEN NULL ELSE value END) AS most FROM points WHERE run = ? AND key = ?",
        run,
        key,
    )[0]
    if not row["count"]:
        raise NotFoundError(f"The run '{run_id[:8]}' has no metric '{key}'", hint=f"See `proj show {run_id[:8]}`.")
    gaps = max(1, limit - 1)
    rows = db.query(
        "SELECT step, timestamp, value, nan FROM"
        " (SELECT *, row_number() OVER (ORDER BY step, timestamp, value, nan) - 1 AS place FROM points"
        "  WHERE run = ? AND key = ?)"
        " WHERE ? <= ? OR place = 0 OR (place * ?) / ? <> ((place - 1) * ?) / ? ORDER BY place",
        run,
        key,
        row["count"],
        limit,
        gaps,
        max(1, row["count"] - 1),
        gaps,
        max(1, row["count"] - 1),
    )
    points = tuple(
        Metric(
            key=key,
            value=float("nan") if point["nan"] else point["value"],
            timestamp=point["timestamp"],
            step=point["step"],
        )
        for point in rows
    )
    return Curve(points=points, count=row["count"], minimum=row["least"], maximum=row["most"])
