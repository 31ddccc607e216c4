"""Sends metric points to a server, each once, also after an interrupted transfer.

Points are ordered by step, time and value. For each metric the sync state has two positions in this order: all points
up to the first are sent, and sending has begun up to the second. Points that are logged later but belong before the
second position are recorded one by one by a database trigger.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from runner.store.database import Database, Row
from runner.store.entities import Metric
from runner.store.row_helpers import run_number
from runner.sync.client import RemoteServer
from runner.sync.sync_state import RemoteRun

BATCH = 1000
"""Maximum number of points in a request."""

_START = (-(2**63), -(2**63), -math.inf, -1)
_LARGEST = 1.7976931348623157e308
_COLUMNS = "step, timestamp, value, nan"

_Point = tuple[int, int, float, int]


class Batch(Struct, frozen=True):
    """The points of one request: in order, or late ones."""

    points: tuple[tuple[str, _Point], ...]
    late: bool


def next_batch(db: Database, copy: RemoteRun, skipped: frozenset[str]) -> Batch:
    """Return the next points to send and record that sending has begun; empty if all are sent.

    ``skipped`` are the metrics that the server refuses.
    """
    with db.transaction():
        run = run_number(db, copy.run_id)
        found: list[tuple[str, _Point]] = []
        for key in _keys_with_more(db, run, copy):
            if key not in skipped and len(found) < BATCH:
                found += [(key, point) for point in _begin(db, run, copy, key, BATCH - len(found))]
        if found:
            return Batch(tuple(found), late=False)
        marks = ", ".join("?" * len(skipped))
        late = db.query(
            f"SELECT key, {_COLUMNS} FROM late_points WHERE copy = ? AND key NOT IN ({marks})"
            f" ORDER BY key, {_COLUMNS} LIMIT ?",
            copy.number,
            *skipped,
            BATCH,
        )
        points = tuple((row["key"], _point(row)) for row in late)
        db.execute_many(f"UPDATE late_points SET begun = 1 {_LATE}", _late_rows(copy, points))
        return Batch(points, late=True)


def mark_sent(db: Database, copy: RemoteRun, batch: Batch) -> None:
    """Record that a batch was sent."""
    if batch.late:
        db.execute_many(f"DELETE FROM late_points {_LATE}", _late_rows(copy, batch.points))
        return
    last = dict(batch.points)
    run = run_number(db, copy.run_id)
    db.execute_many(_FINISH, ((*point, run, key, copy.number) for key, point in last.items()))


def mark_uncertain(db: Database, copy: RemoteRun, keys: Iterable[str]) -> None:
    """Record that the server may have some points of these metrics; `reconcile` finds out which."""
    with db.transaction():
        run = run_number(db, copy.run_id)
        for key in keys:
            last = db.query(
                f"SELECT {_COLUMNS} FROM points WHERE run = ? AND key = ?"
                " ORDER BY step DESC, timestamp DESC, value DESC, nan DESC LIMIT 1",
                run,
                key,
            )
            if last:
                db.execute(_BEGIN, run, key, copy.number, *_START, *_point(last[0]))


def reconcile(db: Database, copy: RemoteRun, server: RemoteServer) -> None:
    """Find out which points of interrupted transfers arrived, and schedule the missing ones.

    Raises:
        RemoteError: the server does not return the points.
    """
    run = run_number(db, copy.run_id)
    begun = db.query(
        "SELECT * FROM sent_points WHERE run = ? AND copy = ?"
        " AND (step, timestamp, value, nan) <> (to_step, to_timestamp, to_value, to_nan)",
        run,
        copy.number,
    )
    late = db.query("SELECT DISTINCT key FROM late_points WHERE copy = ? AND begun", copy.number)
    if not begun and not late:
        return
    latest = server.run(copy.remote_run_id or "").metrics
    for row in begun:
        last = latest.get(row["key"])
        came = set() if last is None else _history(copy, server, row["key"])
        _reconcile_key(db, run, copy, row, came)
    for row in late:
        came = set() if row["key"] not in latest else _history(copy, server, row["key"])
        _reconcile_late(db, copy, row["key"], came)


def _history(copy: RemoteRun, server: RemoteServer, key: str) -> set[_Point]:
    return {
        _as_stored((point.step, point.timestamp, point.value, int(math.isnan(point.value))))
        for point in server.metric_history(copy.remote_run_id or "", key)
    }


def _reconcile_key(db: Database, run: int, copy: RemoteRun, row: Row, came: set[_Point]) -> None:
    """Record the points of a metric that arrived; missing points between the two positions are sent as late points."""
    start = tuple(row[name] for name in ("step", "timestamp", "value", "nan"))
    end = tuple(row[f"to_{name}"] for name in ("step", "timestamp", "value", "nan"))
    with db.transaction():
        between = f"(copy = ? AND key = ?) AND ({_COLUMNS}) > (?, ?, ?, ?) AND ({_COLUMNS}) <= (?, ?, ?, ?)"
        points = db.query(
            f"SELECT {_COLUMNS} FROM points WHERE run = ? AND key = ?"
            f" AND ({_COLUMNS}) > (?, ?, ?, ?) AND ({_COLUMNS}) <= (?, ?, ?, ?)",
            run,
            row["key"],
            *start,
            *end,
        )
        db.execute(f"DELETE FROM late_points WHERE {between}", copy.number, row["key"], *start, *end)
        missing = [point for point in map(_point, points) if _as_stored(point) not in came]
        db.execute_many(
            f"INSERT OR IGNORE INTO late_points (copy, key, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            ((copy.number, row["key"], *point) for point in missing),
        )
        db.execute(_FINISH, *end, run, row["key"], copy.number)


def _reconcile_late(db: Database, copy: RemoteRun, key: str, came: set[_Point]) -> None:
    with db.transaction():
        begun = db.query(f"SELECT {_COLUMNS} FROM late_points WHERE copy = ? AND key = ? AND begun", copy.number, key)
        there = [(key, point) for point in map(_point, begun) if _as_stored(point) in came]
        db.execute_many(f"DELETE FROM late_points {_LATE}", _late_rows(copy, there))
        db.execute("UPDATE late_points SET begun = 0 WHERE copy = ? AND key = ?", copy.number, key)


def as_metrics(points: Iterable[tuple[str, _Point]], measured: Mapping[tuple[str, int, int], Metric]) -> list[Metric]:
    """Return points as the protocol's client expects them; ``measured`` are those measured on a model."""
    found = []
    for key, (step, timestamp, value, nan) in points:
        of = measured.get((key, step, timestamp))
        # Servers require both the name and the digest of a dataset, or neither.
        on_data = of if of and of.dataset_name and of.dataset_digest else None
        found.append(
            Metric(
                key=key,
                value=math.nan if nan else value,
                timestamp=timestamp,
                step=step,
                model_id=of.model_id if of else None,
                dataset_name=on_data.dataset_name if on_data else None,
                dataset_digest=on_data.dataset_digest if on_data else None,
            )
        )
    return found


def _keys_with_more(db: Database, run: int, copy: RemoteRun) -> list[str]:
    rows = db.query(
        "SELECT m.key FROM metrics m LEFT JOIN sent_points s ON s.run = m.run AND s.key = m.key AND s.copy = ?"
        " WHERE m.run = ? AND (s.key IS NULL OR EXISTS (SELECT 1 FROM points p WHERE p.run = m.run AND p.key = m.key"
        " AND (p.step, p.timestamp, p.value, p.nan) > (s.step, s.timestamp, s.value, s.nan)))",
        copy.number,
        run,
    )
    return [row["key"] for row in rows]


def _begin(db: Database, run: int, copy: RemoteRun, key: str, limit: int) -> Sequence[_Point]:
    """Return the next points of a metric, and record that sending them has begun."""
    known = db.query(
        f"SELECT {_COLUMNS} FROM sent_points WHERE run = ? AND key = ? AND copy = ?", run, key, copy.number
    )
    start = _point(known[0]) if known else _START
    rows = db.query(
        f"SELECT {_COLUMNS} FROM points WHERE run = ? AND key = ? AND ({_COLUMNS}) > (?, ?, ?, ?)"
        f" ORDER BY {_COLUMNS} LIMIT ?",
        run,
        key,
        *start,
        limit,
    )
    points = [_point(row) for row in rows]
    if points:
        db.execute(_BEGIN, run, key, copy.number, *start, *points[-1])
    return points


_BEGIN = """INSERT INTO sent_points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, key, copy) DO UPDATE SET
    to_step = excluded.to_step, to_timestamp = excluded.to_timestamp, to_value = excluded.to_value,
    to_nan = excluded.to_nan"""

_FINISH = "UPDATE sent_points SET step = ?, timestamp = ?, value = ?, nan = ? WHERE run = ? AND key = ? AND copy = ?"

_LATE = "WHERE copy = ? AND key = ? AND step = ? AND timestamp = ? AND value = ? AND nan = ?"


def _late_rows(copy: RemoteRun, points: Iterable[tuple[str, _Point]]) -> list[tuple[object, ...]]:
    return [(copy.number, key, *point) for key, point in points]


def _point(row: Row) -> _Point:
    return row["step"], row["timestamp"], row["value"], row["nan"]


def _as_stored(point: _Point) -> _Point:
    """Return a point as MLflow's database stores it: without infinities, and with only a flag for NaN."""
    step, timestamp, value, nan = point
    return step, timestamp, 0.0 if nan else max(-_LARGEST, min(_LARGEST, value)), nan
