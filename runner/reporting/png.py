"""Draws a chart as PNG with matplotlib, which the extra ``plot`` installs."""

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.reporting.axes import Scale
from runner.reporting.chart import Chart, Line
from runner.reporting.html import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (8.0, 4.5)
_DOTS_PER_INCH = 150
_TICKS = 6
_COLOURS = 10
_DASHES = ("-", "--", ":", "-.")
_FADED = 0.25


def draw(chart: Chart) -> bytes:
    """Return a chart as PNG.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "PNG files need matplotlib, which is not installed",
            hint="Install the extra 'plot': pip install 'proj-runner[plot]'. --html needs no extra.",
        ) from error
    content = io.BytesIO()
    # The settings of the user's matplotlibrc do not apply: one of them runs LaTeX on every text.
    with style.context("default"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_axes(axes, chart)
        handles = [_draw_line(axes, line, index) for index, line in enumerate(chart.lines)]
        _draw_legend(axes, chart, handles)
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _draw_axes(axes: "Axes", chart: Chart) -> None:
    # All values are drawn as shares of the axes, as in the other kinds of output, so that the ticks are the same.
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.03, 1.03)
    for axis, set_ticks in ((chart.x, axes.set_xticks), (chart.y, axes.set_yticks)):
        ticks = axis.ticks(_TICKS)
        set_ticks([axis.share(value) for value, _ in ticks], [label for _, label in ticks], parse_math=False)
    log = " (log)" if chart.x.scale is Scale.LOG else ""
    axes.set_xlabel(visible(chart.x.title) + log, parse_math=False)
    log = " (log)" if chart.y.scale is Scale.LOG else ""
    axes.set_ylabel(visible(chart.y.title) + log, parse_math=False)
    axes.grid(visible=True, alpha=_FADED)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_line(axes: "Axes", line: Line, index: int) -> Any:  # noqa: ANN401  matplotlib's Line2D
    colour = f"C{index % _COLOURS}"
    dash = _DASHES[index // _COLOURS % len(_DASHES)]
    for part in line.raw:
        axes.plot(*zip(*part, strict=True), color=colour, alpha=_FADED, linewidth=1)
    xs: list[float] = []
    ys: list[float] = []
    for part in line.parts:
        xs += [*(x for x, _ in part), math.nan]
        ys += [*(y for _, y in part), math.nan]
        if len(part) == 1:
            axes.plot(*part[0], "o", color=colour, markersize=4)
    return axes.plot(xs, ys, dash, color=colour, linewidth=1.6)[0]


def _draw_legend(axes: "Axes", chart: Chart, handles: list[Any]) -> None:
    is_one = len({line.series.metric for line in chart.lines}) == 1
    # The id comes first: matplotlib leaves out labels that start with an underscore.
    labels = [
        visible(f"{one.run_id[:8]} {one.run_name}{'' if is_one else f': {one.metric}'}")
        for one in (line.series for line in chart.lines)
    ]
    legend = axes.legend(handles, labels, fontsize="small", frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
