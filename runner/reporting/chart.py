"""Places curves on the axes of a chart; terminal, SVG and PNG draw the same chart."""

import math
from collections.abc import Sequence
from datetime import timezone, tzinfo
from itertools import groupby

from msgspec import Struct

from runner.reporting.axes import Axis, Scale, make_axis, time_of
from runner.reporting.series import RELATIVE, STEP, TIME, Point, Series

_UNITS = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Durations from the first number of seconds on are shown in a unit of the second number of seconds."""

Share = tuple[float, float]
"""A position in a chart: 0 to 1 from left to right and from bottom to top."""


class ChartOptions(Struct, frozen=True, kw_only=True):
    """How a chart is drawn: its horizontal axis as in `CurveRequest`, logarithmic axes, the zone of times."""

    x: str = STEP
    log_x: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    zone: tzinfo | None = timezone.utc


class Line(Struct, frozen=True, kw_only=True):
    """A curve in a chart: the parts without gaps; a part of one position is a single point.

    ``raw`` are the parts before smoothing, empty without smoothing.
    """

    series: Series
    parts: tuple[tuple[Share, ...], ...]
    raw: tuple[tuple[Share, ...], ...] = ()


class Chart(Struct, frozen=True, kw_only=True):
    """Curves on two axes.

    ``missing`` counts the points that can't be drawn: NaN, infinite, or not above 0 on a logarithmic axis.
    """

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    missing: int = 0


def make_chart(series: Sequence[Series], options: ChartOptions) -> Chart | None:
    """Return the chart of curves, or None if they have no point that can be drawn."""
    divisor, unit = _duration_unit(series) if options.x == RELATIVE else (1.0, "")
    drawn = [(point.x / divisor, point.shown) for one in series for point in one.points if _is_drawn(point, options)]
    if not drawn:
        return None
    x = make_axis(_x_title(options, unit, drawn), [position for position, _ in drawn], _x_scale(options), options.zone)
    names = ", ".join(dict.fromkeys(one.metric for one in series))
    y = make_axis(names, _heights(series, options), Scale.LOG if options.log_y else Scale.LINEAR)
    lines = tuple(
        Line(
            series=one,
            parts=_parts(one, options, divisor, x, y, is_raw=False),
            raw=_parts(one, options, divisor, x, y, is_raw=True) if options.smoothing else (),
        )
        for one in series
    )
    missing = sum(len(one.points) for one in series) - len(drawn)
    return Chart(title=names, x=x, y=y, lines=lines, missing=missing)


def _heights(series: Sequence[Series], options: ChartOptions) -> list[float]:
    points = [point for one in series for point in one.points if _is_drawn(point, options)]
    shown = [point.shown for point in points]
    return shown + [point.value for point in points if options.smoothing and _is_drawable(point.value, options.log_y)]


def _is_drawn(point: Point, options: ChartOptions) -> bool:
    return _is_drawable(point.x, options.log_x) and _is_drawable(point.shown, options.log_y)


def _is_drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _parts(
    series: Series, options: ChartOptions, divisor: float, x: Axis, y: Axis, *, is_raw: bool
) -> tuple[tuple[Share, ...], ...]:
    """Return the parts of a curve between points that can't be drawn."""

    def height(point: Point) -> float:
        return point.value if is_raw else point.shown

    def is_drawn(point: Point) -> bool:
        return _is_drawn(point, options) and _is_drawable(height(point), options.log_y)

    return tuple(
        tuple((x.share(point.x / divisor), y.share(height(point))) for point in part)
        for drawn, part in groupby(series.points, is_drawn)
        if drawn
    )


def _x_scale(options: ChartOptions) -> Scale:
    if options.log_x and options.x != TIME:
        return Scale.LOG
    return {STEP: Scale.WHOLE, TIME: Scale.TIME}.get(options.x, Scale.LINEAR)


def _x_title(options: ChartOptions, unit: str, drawn: Sequence[Share]) -> str:
    if options.x == RELATIVE:
        return f"{unit} since the first point"
    if options.x != TIME:
        return options.x
    start = time_of(min(position for position, _ in drawn), options.zone)
    return "time" if start is None else f"time from {start:%Y-%m-%d} ({start.tzname()})"


def _duration_unit(series: Sequence[Series]) -> tuple[float, str]:
    longest = max((point.x for one in series for point in one.points), default=0.0)
    return next((divisor, unit) for least, divisor, unit in _UNITS if longest >= least)
