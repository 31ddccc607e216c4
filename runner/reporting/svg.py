"""Draws a chart as SVG for a page; the colours come from the style sheet of the page."""

from collections.abc import Iterator

from runner.base.plurals import counted
from runner.reporting.axes import Tick
from runner.reporting.chart import Chart, Line, Share
from runner.reporting.html import Html, element, join

COLOURS = 8
"""Colours of curves in the style sheet: classes ``c0`` to ``c7``."""
_DASHES = (None, "7 3", "2 3", "9 3 2 3")
_WIDTH, _HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 46
_X_TICKS, _Y_TICKS = 5, 5
_LONGEST = 60
"""Characters of an axis title."""


def draw(chart: Chart, identity: str) -> Html:
    """Return a chart as SVG with a title and a description; ``identity`` is unique in the page."""
    title, about = f"{identity}-title", f"{identity}-about"
    return element(
        "svg",
        element("title", chart.title, id=title),
        element("desc", describe(chart), id=about),
        _axes(chart),
        [_curve(line, index) for index, line in enumerate(chart.lines)],
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_labelledby=f"{title} {about}",
    )


def describe(chart: Chart) -> str:
    """Return in words what a chart shows."""
    count = len(chart.lines)
    curves = counted(count, "curve")
    scale = " on a logarithmic scale" if chart.y.scale.value == "log" else ""
    return (
        f"{curves} of {chart.title}{scale} over {chart.x.title}. "
        f"Values from {chart.y.low:.6g} to {chart.y.high:.6g}; the table below has the last value of each curve."
    )


def swatch(index: int) -> Html:
    """Return the sample of a curve's line for the legend."""
    line = element("line", x1=1, y1=6, x2=27, y2=6, stroke_dasharray=_dash(index))
    return element("svg", line, class_=f"swatch {_class(index)}", viewBox="0 0 28 12", aria_hidden="true")


def _class(index: int) -> str:
    return f"curve c{index % COLOURS}"


def _dash(index: int) -> str | None:
    return _DASHES[(index + index // COLOURS) % len(_DASHES)]


def _axes(chart: Chart) -> Html:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    return element(
        "g",
        [_y_tick(chart, tick, right) for tick in chart.y.ticks(_Y_TICKS)],
        list(_x_ticks(chart, bottom)),
        element("path", d=f"M{_LEFT} {_TOP}V{bottom}H{right}", class_="axis"),
        element(
            "text", _short(chart.x.title), x=(_LEFT + right) / 2, y=_HEIGHT - 6, text_anchor="middle", class_="name"
        ),
        class_="axes",
        aria_hidden="true",
    )


def _y_tick(chart: Chart, tick: Tick, right: int) -> Html:
    value, label = tick
    _, y = _point((0, chart.y.share(value)))
    line = element("path", d=f"M{_LEFT} {y:.1f}H{right}", class_="grid")
    return join(line, element("text", label, x=_LEFT - 6, y=f"{y + 5:.1f}", text_anchor="end"))


def _x_ticks(chart: Chart, bottom: int) -> Iterator[Html]:
    end = 0.0
    for value, label in chart.x.ticks(_X_TICKS):
        x, _ = _point((chart.x.share(value), 0))
        half = len(label) * 4.2
        anchor, start = ("end", x - 2 * half) if x + half > _WIDTH else ("middle", x - half)
        if start < end:
            continue
        end = start + 2 * half + 6
        yield element("path", d=f"M{x:.1f} {bottom}v4", class_="axis")
        yield element("text", label, x=f"{x:.1f}", y=bottom + 19, text_anchor=anchor)


def _curve(line: Line, index: int) -> Html:
    series = line.series
    return element(
        "g",
        element("title", f"{series.run_id[:8]} {series.run_name}: {series.metric}"),
        [_path(part, None, "raw") for part in line.raw],
        [_path(part, _dash(index), None) for part in line.parts],
        class_=_class(index),
    )


def _path(part: tuple[Share, ...], dash: str | None, class_: str | None) -> Html:
    """Return a part of a curve; a single point is a dot."""
    points = [f"{x:.1f} {y:.1f}" for x, y in map(_point, part)]
    if len(set(points)) == 1:
        x, y = points[0].split()
        return element("circle", cx=x, cy=y, r=3, class_=class_)
    kept = [point for number, point in enumerate(points) if not number or point != points[number - 1]]
    return element("path", d=f"M{kept[0]}L{' '.join(kept[1:])}", stroke_dasharray=dash, class_=class_)


def _point(share: Share) -> Share:
    x, y = share
    return _LEFT + x * (_WIDTH - _LEFT - _RIGHT), _TOP + (1 - y) * (_HEIGHT - _TOP - _BOTTOM)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
