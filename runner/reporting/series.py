"""Reads the curves of metrics from runs: points on a chosen horizontal axis, smoothed."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from msgspec import Struct, structs

from runner.base.suggestions import suggestion
from runner.errors import NotFoundError, UsageError
from runner.model import RunRecord
from runner.runs.reader import RunReader
from runner.store.downsampling import SampledHistory
from runner.store.entities import Metric

STEP, TIME, RELATIVE = "step", "time", "relative"
"""Horizontal axes; any other word is the name of a metric."""
_SECOND = 1000
_SHOWN = 12
"""Names of metrics that an error message lists."""


class Point(Struct, frozen=True, kw_only=True):
    """A logged value at a step and a time in milliseconds since 1970; ``x`` is its place on the horizontal axis.

    ``x`` is a step, or seconds since 1970, or seconds since the first point, or the value of another metric.
    ``shown`` is the smoothed value.
    """

    step: int
    time: int
    x: float
    value: float
    shown: float


class Series(Struct, frozen=True, kw_only=True):
    """The curve of a metric of a run; ``count`` and the other totals cover all logged points."""

    run_id: str
    run_name: str
    metric: str
    points: tuple[Point, ...]
    count: int
    minimum: float | None
    maximum: float | None

    @property
    def last(self) -> float:
        """The last logged value."""
        return self.points[-1].value


class CurveRequest(Struct, frozen=True, kw_only=True):
    """The metrics to draw, their horizontal axis, the weight of smoothing (0 to 1), and the points per curve."""

    metrics: tuple[str, ...]
    x: str = STEP
    smoothing: float = 0.0
    limit: int = 1000


class Curves(Struct, frozen=True, kw_only=True):
    """The curves that were found, and notices about runs that lack some."""

    series: tuple[Series, ...]
    notices: tuple[str, ...] = ()


def find_records(reader: RunReader, references: Iterable[str]) -> tuple[RunRecord, ...]:
    """Return the records of runs in the order of the words; a run that is named twice is returned once.

    Raises:
        NotFoundError: a run does not exist.
    """
    found = [reader.record(reference) for reference in references]
    return tuple({record.run_id: record for record in found}.values())


def read_curves(reader: RunReader, records: Sequence[RunRecord], request: CurveRequest) -> Curves:
    """Return the curves of metrics of runs.

    Raises:
        NotFoundError: no run has a metric; the hint names similar ones.
        UsageError: a metric is its own horizontal axis, or has no step in common with it.
    """
    known = {_id(record): tuple(reader.last_points(_id(record))) for record in records}
    axis = () if _is_own_axis(request.x) else (request.x,)
    for name in (*request.metrics, *axis):
        _require_metric(name, known)
    if request.x in request.metrics:
        raise UsageError(f"The metric '{request.x}' can't be drawn over itself")
    found: list[Series] = []
    notices: list[str] = []
    for name in dict.fromkeys(request.metrics):
        for record in records:
            lacking = [one for one in (name, *axis) if one not in known[_id(record)]]
            series = None if lacking else _read(reader, record, name, request)
            if series is not None:
                found.append(series)
                continue
            why = f"no metric '{lacking[0]}'" if lacking else f"no step with both '{name}' and '{request.x}'"
            notices.append(f"run {_id(record)[:8]} has {why}")
    if not found:
        raise UsageError("There is nothing to draw", context="\n".join(notices))
    return Curves(series=tuple(found), notices=tuple(notices))


def smooth(values: Sequence[float], weight: float) -> Iterator[float]:
    """Yield the exponential moving average, corrected for its start as Adam does; other than finite numbers stay.

    The first value has the full weight, so that a curve does not start at zero.
    """
    average = total = 0.0
    for value in values:
        if math.isfinite(value):
            average = average * weight + value * (1 - weight)
            total = total * weight + (1 - weight)
            yield average / total
        else:
            yield value


def _id(record: RunRecord) -> str:
    return record.run_id or ""


def _is_own_axis(x: str) -> bool:
    return x in (STEP, TIME, RELATIVE)


def _require_metric(name: str, known: dict[str, tuple[str, ...]]) -> None:
    names = sorted({one for metrics in known.values() for one in metrics})
    if name in names:
        return
    if not names:
        raise NotFoundError("These runs have no metrics")
    more = ", …" if len(names) > _SHOWN else ""
    some = f"Their metrics are {', '.join(names[:_SHOWN])}{more}."
    subject = "The run has no metric" if len(known) == 1 else "None of the runs has a metric"
    raise NotFoundError(f"{subject} '{name}'", hint=suggestion(name, names) or some)


def _read(reader: RunReader, record: RunRecord, name: str, request: CurveRequest) -> Series | None:
    history = reader.sampled_history(_id(record), name, request.limit)
    points = _placed(reader, record, history, request)
    if not points:
        return None
    shown = smooth([point.value for point in points], request.smoothing) if request.smoothing else None
    return Series(
        run_id=_id(record),
        run_name=record.run_name or "",
        metric=name,
        points=tuple(structs.replace(point, shown=next(shown)) for point in points) if shown else points,
        count=history.count,
        minimum=history.minimum,
        maximum=history.maximum,
    )


def _placed(reader: RunReader, record: RunRecord, history: SampledHistory, request: CurveRequest) -> tuple[Point, ...]:
    """Return the points of a history with their place on the horizontal axis, in drawing order."""
    if not _is_own_axis(request.x):
        return _over_metric(reader, record, history, request)
    start = min((point.timestamp for point in history.points), default=0) if request.x == RELATIVE else 0
    points = (
        _point(point, float(point.step) if request.x == STEP else (point.timestamp - start) / _SECOND)
        for point in history.points
    )
    return tuple(sorted(points, key=lambda point: (point.x, point.time)))


def _over_metric(
    reader: RunReader, record: RunRecord, history: SampledHistory, request: CurveRequest
) -> tuple[Point, ...]:
    """Return points at the steps that two metrics have in common.

    Of the metric with fewer points a sample is taken, and the other one is read through, so that the steps of both
    are the same and memory does not grow with the number of points.
    """
    name = history.points[0].key
    other = reader.sampled_history(_id(record), request.x, request.limit)
    if history.count <= other.count:
        values = _last_values(history.points)
        positions = _at_steps(reader.history(_id(record), request.x), values.keys())
    else:
        positions = _last_values(other.points)
        values = _at_steps(reader.history(_id(record), name), positions.keys())
    return tuple(_point(values[step], positions[step].value) for step in sorted(values.keys() & positions.keys()))


def _last_values(points: Iterable[Metric]) -> dict[int, Metric]:
    """Return the last point of each step."""
    return {point.step: point for point in points}


def _at_steps(points: Iterable[Metric], steps: Iterable[int]) -> dict[int, Metric]:
    wanted = frozenset(steps)
    return _last_values(point for point in points if point.step in wanted)


def _point(point: Metric, x: float) -> Point:
    return Point(step=point.step, time=point.timestamp, x=x, value=point.value, shown=point.value)


def is_curve(series: Series) -> bool:
    """Tell whether a series has more than one place on the horizontal axis."""
    return any(before.x != after.x for before, after in pairwise(series.points))
