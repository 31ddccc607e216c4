"""``proj plot``: draws the curves of metrics in the terminal, or as PNG or HTML."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from runner.base.lazy import LazyModule
from runner.cli import completions
from runner.cli.metrics import json_number, point_row
from runner.cli.options import reads_runs
from runner.cli.run_choice import Options, check_target, chooses_runs, chosen_records, write_target
from runner.cli.run_source import open_runs
from runner.cli.tables import Layout, print_table
from runner.cli.text import print_warning, printable
from runner.errors import InvalidValueError, NotFoundError, UsageError
from runner.model import RunRecord
from runner.reporting import terminal
from runner.reporting.chart import Chart, ChartOptions, make_chart
from runner.reporting.series import STEP, CurveRequest, Curves, Series, read_curves
from runner.runs.reader import RunReader
from runner.store.entities import Metric

if TYPE_CHECKING:
    from runner.reporting import page, png
else:
    page = LazyModule("runner.reporting.page")
    png = LazyModule("runner.reporting.png")

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
_POINTS = 1000
_NO_BRAILLE = ("dumb", "linux")
"""Terminals whose fonts lack Braille characters."""
_AROUND = 9
"""Lines of the terminal that the chart leaves to its legend and the prompt."""
_LEAST, _MOST = 8, 24


@click.command("plot")
@click.argument("metric", metavar="METRIC", shell_complete=completions.metrics)
@chooses_runs
@click.option(
    "--x",
    default=STEP,
    show_default=True,
    metavar="AXIS",
    help="Horizontal axis: step, time, relative (time since the first point), or another metric.",
)
@click.option("--log", "log_y", is_flag=True, help="Logarithmic vertical axis.")
@click.option("--log-x", is_flag=True, help="Logarithmic horizontal axis.")
@click.option(
    "--smooth",
    "smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="WEIGHT",
    help="Smooth by an exponential moving average of this weight, 0 to 1.",
)
@click.option("--width", type=click.IntRange(16, 1000), help="Width in columns. [default: the terminal's]")
@click.option("--height", type=click.IntRange(5, 200), help="Height of the chart in lines.")
@click.option("--points", type=click.IntRange(2, 100_000), default=_POINTS, show_default=True, help="Points per curve.")
@click.option("--png", "png_file", metavar="FILE", help="Write a PNG file instead (needs the extra 'plot').")
@click.option("--html", "html_file", metavar="FILE", help="Write an HTML file instead.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print the curves as a JSON list.")
def plot(metric: str, as_json: bool, **options: str | bool | float | tuple[str, ...] | None) -> None:
    """Draw the curve of METRIC for each RUN, by default for the latest one.

    Several metrics are separated by commas: loss,val_loss. Curves with many points are reduced to --points of them.

    \b
    Examples:
      proj plot loss latest latest~1 --log
      proj plot loss,val_loss --html curves.html
    """  # noqa: D301  # click reads the control character
    check_target(_text(options["png_file"]), ".png")
    check_target(_text(options["html_file"]), ".html", ".htm")
    with open_runs(_text(options["tracking_uri"]), local=bool(options["local"])) as reader:
        curves = read_curves(reader, _records(reader, metric, options), _request(metric, options))
    for notice in curves.notices:
        print_warning(notice)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_document(one) for one in curves.series]), indent=2))
        return
    chart = _chart(curves, options)
    if options["png_file"] is not None:
        write_target(str(options["png_file"]), png.draw(chart))
    if options["html_file"] is not None:
        write_target(str(options["html_file"]), page.chart_page(chart, curves.notices))
    if options["png_file"] is None and options["html_file"] is None:
        _print_chart(chart, options)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _request(metric: str, options: Options) -> CurveRequest:
    # The names of metrics have no commas: MLflow and the store refuse them.
    names = tuple(dict.fromkeys(name.strip() for name in metric.split(",") if name.strip()))
    if not names:
        raise UsageError("The name of a metric is missing")
    return msgspec.convert(
        {"metrics": names, "x": options["x"], "smoothing": options["smoothing"], "limit": options["points"]},
        CurveRequest,
    )


def _records(reader: RunReader, metric: str, options: Options) -> tuple[RunRecord, ...]:
    try:
        return chosen_records(reader, options)
    except NotFoundError as error:
        _check_order(reader, metric, options["run"])
        raise error from None


def _check_order(reader: RunReader, metric: str, references: object) -> None:
    """Raise a better error if the metric and the run are the wrong way round, as in `proj metrics RUN NAME`."""
    try:
        known = reader.last_points(metric)
    except (NotFoundError, InvalidValueError):
        return
    for reference in references if isinstance(references, tuple) else ():
        if reference in known:
            raise UsageError("The metric comes before the runs", hint=f"proj plot {reference} {metric}")


def _chart(curves: Curves, options: Options) -> Chart:
    is_file = options["png_file"] is not None or options["html_file"] is not None
    chart_options = {name: options[name] for name in ("x", "log_x", "log_y", "smoothing")}
    wanted = msgspec.convert(chart_options, ChartOptions)
    # A file has times in UTC, so that it is the same on every machine.
    chart = make_chart(curves.series, wanted if is_file else msgspec.structs.replace(wanted, zone=None))
    if chart is None:
        why = "no point above 0" if wanted.log_x or wanted.log_y else "only NaN and infinite values"
        raise InvalidValueError(f"There is nothing to draw: the curves have {why}")
    return chart


def _document(series: Series) -> dict[str, object]:
    points = [
        {
            **point_row(Metric(key=series.metric, value=point.value, timestamp=point.time, step=point.step)),
            "x": json_number(point.x),
            "shown": json_number(point.shown),
        }
        for point in series.points
    ]
    facts = {"run_id": series.run_id, "run_name": series.run_name, "metric": series.metric, "count": series.count}
    return {**facts, "points": points}


def _print_chart(chart: Chart, options: Options) -> None:
    count = len(chart.lines)
    if count > terminal.MOST:
        raise UsageError(f"A chart in the terminal shows at most {terminal.MOST} curves", hint="--html shows more.")
    style = _style(options)
    facts = [
        "log scale" if options["log_y"] else "",
        f"smoothed {options['smoothing']:g}" if options["smoothing"] else "",
        _not_drawn(chart.missing),
    ]
    _echo(f"{printable(chart.title)}{''.join(f', {fact}' for fact in facts if fact)}")
    for pieces in terminal.draw(chart, style):
        _echo("".join(_styled(text, index, style) for text, index in pieces))
    _print_legend([line.series for line in chart.lines], style)


def _not_drawn(count: int) -> str:
    return f"{count} {'point is' if count == 1 else 'points are'} not drawn" if count else ""


def _style(options: Options) -> terminal.Style:
    size = shutil.get_terminal_size()
    is_plain = os.environ.get("TERM") in _NO_BRAILLE
    return terminal.Style(
        width=int(str(options["width"] or size.columns)),
        height=int(str(options["height"] or min(_MOST, max(_LEAST, size.lines - _AROUND)))),
        unicode=not is_plain and _can_print("".join(terminal.GLYPHS) + "⣿┤└─"),
        colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _echo(text: str) -> None:
    """Print a line; what the encoding of stdout lacks is escaped."""
    click.echo(text if _can_print(text) else text.encode("ascii", "backslashreplace").decode())


def _styled(text: str, index: int | None, style: terminal.Style) -> str:
    return click.style(text, fg=_COLOURS[index % len(_COLOURS)]) if style.colour and index is not None else text


def _print_legend(series: Sequence[Series], style: terminal.Style) -> None:
    signs = [style.sign(index, len(series)) for index in range(len(series))]
    is_one = len({one.metric for one in series}) == 1
    titles = ["", "run", "name", *([] if is_one else ["metric"]), "last", "smallest", "largest", "points"]
    rows = [
        [sign, one.run_id[:8], one.run_name, *([] if is_one else [one.metric]), *_facts(one)]
        for sign, one in zip(signs, series, strict=True)
    ]
    if style.unicode:
        colours = {sign: _COLOURS[index % len(_COLOURS)] for index, sign in enumerate(signs)} if style.colour else None
        print_table(titles, rows, colours, Layout(drop_order=("points", "smallest", "largest", "name")))
    else:
        for row in rows:
            _echo(printable("  ".join(row)))


def _facts(series: Series) -> list[str]:
    least, most = ("none" if value is None else f"{value:.6g}" for value in (series.minimum, series.maximum))
    return [f"{series.last:.6g}", least, most, str(series.count)]
