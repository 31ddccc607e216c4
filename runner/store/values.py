"""Stores the values of a run: parameters, metrics and tags."""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from runner.base.masking import STARS, keyed_digest, load_key
from runner.errors import InvalidValueError, NotFoundError
from runner.model import Parameter
from runner.store.database import Database, Row
from runner.store.entities import Metric, Page, Param
from runner.store.row_helpers import checked_tags, chunks, run_number, write_run_tags
from runner.store.rules import check_metric, check_name, check_value

LOGGED = "logged"
"""The source of a parameter that the run's code logged."""

MAX_HISTORY = 50_000
"""Maximum number of points in one page of a metric's history."""

_TRUTHS = {"true": 1.0, "false": 0.0}


def log_params(db: Database, run_id: str, params: Iterable[tuple[str, str]]) -> None:
    """Store parameters of a run. A parameter never changes, but the same value may be logged again.

    The launcher and the script may write the same value differently (``0.00001`` and ``1e-05``): equal numbers and
    truth values count as the same value, and the launcher's text stays.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted, a name or value is invalid, or a parameter has another value.
    """
    pairs = [(check_name("parameter", key), check_value("parameter", key, value)) for key, value in params]
    with db.transaction():
        run = run_number(db, run_id, active=True)
        for key, value in pairs:
            added = db.execute("INSERT OR IGNORE INTO params (run, key, value) VALUES (?, ?, ?)", run, key, value)
            if not added:
                _refuse_change(db, run, key, value)


def record_parameters(db: Database, run_id: str, parameters: Iterable[Parameter]) -> None:
    """Store the launcher's parameters of a run, with types and sources; secret values are masked.

    Names are not checked: the values passed to the command are recorded unchanged.
    """
    rows = []
    for parameter in parameters:
        secret = _digest(db, parameter.value) if parameter.secret else None
        value = STARS if parameter.secret else parameter.value
        rows.append((parameter.name, value, parameter.type, parameter.source.value, secret))
    with db.transaction():
        run = run_number(db, run_id, active=True)
        db.execute_many("INSERT OR REPLACE INTO params VALUES (?, ?, ?, ?, ?, ?)", ((run, *row) for row in rows))


def params(db: Database, run_id: str) -> tuple[Param, ...]:
    """Return the parameters of a run with types and sources, by name."""
    rows = db.query("SELECT * FROM params WHERE run = ? ORDER BY key", run_number(db, run_id))
    return tuple(_param(row) for row in rows)


def _param(row: Row) -> Param:
    return Param(key=row["key"], value=row["value"], type=row["type"], source=row["source"], digest=row["digest"])


def params_of_runs(db: Database, run_ids: Sequence[str]) -> dict[str, tuple[Param, ...]]:
    """Return the parameters of many runs by run id; runs without parameters are omitted."""
    found: dict[str, list[Param]] = {}
    for piece, marks in chunks(run_ids):
        sql = (
            "SELECT r.run_id, p.key, p.value, p.type, p.source, p.digest FROM params p JOIN runs r ON r.id = p.run"
            f" WHERE r.run_id IN ({marks}) ORDER BY p.key"
        )
        for run_id, key, value, kind, source, digest in db.query(sql, *piece):
            param = Param(key=key, value=value, type=kind, source=source, digest=digest)
            found.setdefault(run_id, []).append(param)
    return {run_id: tuple(stored) for run_id, stored in found.items()}


def log_metrics(db: Database, run_id: str, metrics: Iterable[Metric]) -> None:
    """Store points of metrics. The latest value is that of the greatest step, then time, then value.

    A duplicate point is stored once, so a client may repeat a request without response.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted, or a name, value, time or step is invalid.
    """
    points = [check_metric(metric) for metric in metrics]
    last: dict[str, Metric] = {}
    for point in points:
        if point.key not in last or rank(point) >= rank(last[point.key]):
            last[point.key] = point
    with db.transaction():
        run = run_number(db, run_id, active=True)
        db.execute_many("INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?, ?)", (point_row(run, p) for p in points))
        db.execute_many(UPSERT_METRIC, ((run, p.key, stored_value(p), p.timestamp, p.step) for p in last.values()))
        _log_model_metrics(db, run_id, points)


def metric_history(
    db: Database, run_id: str, key: str, limit: int = MAX_HISTORY, page_token: str | None = None
) -> Page[Metric]:
    """Return points of a metric by step, then time, then value.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the limit or the token is invalid.
    """
    if not 1 <= limit <= MAX_HISTORY:
        raise InvalidValueError(f"The number of points must be from 1 to {MAX_HISTORY}")
    run = run_number(db, run_id)
    after = _read_token(page_token) if page_token else (-(2**63), -(2**63), -math.inf, -1)
    rows = db.query(
        "SELECT step, timestamp, value, nan FROM points WHERE run = ? AND key = ?"
        " AND (step, timestamp, value, nan) > (?, ?, ?, ?) ORDER BY step, timestamp, value, nan LIMIT ?",
        run,
        key,
        *after,
        limit + 1,
    )
    token = _make_token(rows[limit - 1]) if len(rows) > limit else None
    return Page(items=tuple(_metric(key, row) for row in rows[:limit]), next_page_token=token)


def set_tags(db: Database, run_id: str, tags: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Set tags of a run; ``mlflow.runName`` renames it.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted, or a name or value is invalid.
    """
    pairs = checked_tags(tags)
    with db.transaction():
        write_run_tags(db, run_number(db, run_id, active=True), pairs)


def delete_tag(db: Database, run_id: str, key: str) -> None:
    """Remove a tag of a run.

    Raises:
        NotFoundError: there is no such run, or no such tag.
        InvalidValueError: the run is deleted.
    """
    with db.transaction():
        run = run_number(db, run_id, active=True)
        if not db.execute("DELETE FROM tags WHERE run = ? AND key = ?", run, key):
            raise NotFoundError(f"The run '{run_id}' has no tag '{key}'")


_NEWER = """WHERE (excluded.step, excluded.timestamp, coalesce(excluded.value, -9e999))
    >= ({0}.step, {0}.timestamp, coalesce({0}.value, -9e999))"""

UPSERT_METRIC = f"""INSERT INTO metrics (run, key, value, timestamp, step) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (run, key) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
    {_NEWER.format("metrics")}"""

UPSERT_MODEL_METRIC = f"""INSERT INTO model_metrics
    (model, key, run_id, dataset_name, dataset_digest, value, timestamp, step) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, key, run_id, dataset_name, dataset_digest)
    DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
    {_NEWER.format("model_metrics")}"""


def _log_model_metrics(db: Database, run_id: str, points: Sequence[Metric]) -> None:
    """Store metrics with the model they were measured on, which MLflow 3 clients send."""
    numbers: dict[str, int | None] = {}
    for point in points:
        if not point.model_id:
            continue
        if point.model_id not in numbers:
            rows = db.query("SELECT id FROM models WHERE model_id = ?", point.model_id)
            numbers[point.model_id] = rows[0]["id"] if rows else None
        number = numbers[point.model_id]
        if number is not None:
            identity = (number, point.key, run_id, point.dataset_name or "", point.dataset_digest or "")
            db.execute(UPSERT_MODEL_METRIC, *identity, stored_value(point), point.timestamp, point.step)


def _refuse_change(db: Database, run: int, key: str, value: str) -> None:
    row = db.query("SELECT value, source, digest FROM params WHERE run = ? AND key = ?", run, key)[0]
    if row["digest"] is not None:
        import hmac

        if value == STARS or hmac.compare_digest(row["digest"], _digest(db, value)):
            return
        raise InvalidValueError(f"The secret parameter '{key}' has another value already")
    if row["value"] == value or (row["source"] != LOGGED and is_equal(row["value"], value)):
        return
    raise InvalidValueError(
        f"The parameter '{key}' has another value already; parameters of a run can't be changed",
        context=f"it is '{row['value'][:200]}', not '{value[:200]}'",
        hint="Log it under another name, or as a tag.",
    )


def is_equal(one: str, other: str) -> bool:
    """Return whether two texts are the same number or truth value: ``1e-05`` and ``0.00001``, ``True`` and ``true``."""
    first, second = _number(one), _number(other)
    if first is None or second is None:
        return False
    return first == second or (math.isnan(first) and math.isnan(second))


def _digest(db: Database, value: str) -> str:
    return keyed_digest(load_key(db.path.parent / "digest.key"), value)


def _number(text: str) -> float | None:
    word = text.strip().lower()
    if word in _TRUTHS:
        return _TRUTHS[word]
    try:
        return float(word)
    except ValueError:
        return None


def rank(metric: Metric) -> tuple[int, int, float]:
    """Return the sort key that determines the latest point of a metric."""
    return metric.step, metric.timestamp, -math.inf if math.isnan(metric.value) else metric.value


def stored_value(metric: Metric) -> float | None:
    """Return the value as stored: None for NaN."""
    return None if math.isnan(metric.value) else float(metric.value)


def point_row(run: int, metric: Metric) -> tuple[object, ...]:
    """Return the row of a point in the metric history of a run."""
    value = stored_value(metric)
    return run, metric.key, metric.step, metric.timestamp, value or 0.0, value is None


def _metric(key: str, row: Row) -> Metric:
    value = math.nan if row["nan"] else row["value"]
    return Metric(key=key, value=value, timestamp=row["timestamp"], step=row["step"])


_Position = tuple[int, int, float, int]


def _make_token(row: Row) -> str:
    import base64

    return base64.urlsafe_b64encode(msgspec.msgpack.encode(tuple(row))).decode()


def _read_token(token: str) -> _Position:
    import base64

    try:
        identity: _Position = msgspec.msgpack.decode(base64.urlsafe_b64decode(token), type=_Position)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidValueError("The page token is invalid") from error
    return identity
