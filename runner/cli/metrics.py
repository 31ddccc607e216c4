"""``proj metrics``: prints the history of a metric as a chart of one line, as JSON or as CSV."""

import csv
import math
import sys
from collections.abc import Iterable

import click
import msgspec

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.options import reads_runs
from runner.cli.output import local_time
from runner.cli.run_source import open_runs
from runner.cli.text import print_lines, printable
from runner.store.downsampling import SampledHistory
from runner.store.entities import Metric
from runner.store.records import format_time

_BARS = "▁▂▃▄▅▆▇█"
_NO_NUMBER = "·"


@click.command("metrics")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("name", required=False, shell_complete=completions.metrics)
@click.option("--json", "as_json", is_flag=True, help="Print all points as a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all points as CSV: step, time, value.")
@click.option("--width", type=click.IntRange(10, 1000), default=60, show_default=True, help="Width of the chart.")
@reads_runs
def metrics(run: str, name: str | None, as_json: bool, width: int, **options: str | bool | None) -> None:
    """Show the history of the metric NAME of RUN, or the last values of all its metrics.

    \b
    Examples:
      proj metrics latest
      proj metrics 7f3a loss
    """  # noqa: D301  # click reads the control character
    uri, as_csv = options["tracking_uri"], bool(options["as_csv"])
    with open_runs(None if uri is None else str(uri), local=bool(options["local"])) as reader:
        if name is None:
            _print_last(reader.last_points(run).values(), as_json=as_json)
            return
        if as_csv or as_json:
            (_print_csv if as_csv else _print_json)(reader.history(run, name))
            return
        curve = reader.sampled_history(run, name, width)
    first, last = curve.points[0], curve.points[-1]
    click.echo(sparkline(curve))
    least, most = ("none" if value is None else f"{value:.6g}" for value in (curve.minimum, curve.maximum))
    print_lines(
        f"{printable(name)}: last {last.value:.10g} at step {last.step}, {local_time(format_time(last.timestamp))}"
    )
    print_lines(f"{counted(curve.count, 'point')} from step {first.step}, smallest {least}, largest {most}")


def sparkline(curve: SampledHistory) -> str:
    """Return a metric's history as a line of small bars; a dot stands for NaN."""
    finite = [point.value for point in curve.points if math.isfinite(point.value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_bar(point.value, low, high) for point in curve.points)


def _bar(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return _NO_NUMBER
    if math.isinf(value):
        return _BARS[-1 if value > 0 else 0]
    # Halving avoids an overflow in the difference of very large numbers.
    span = high / 2 - low / 2
    share = (value / 2 - low / 2) / span if span else 0.5
    return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]


def _print_last(found: Iterable[Metric], *, as_json: bool) -> None:
    listed = sorted(found, key=lambda point: point.key)
    if as_json:
        rows = {point.key: point_row(point) for point in listed}
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    for point in listed:
        print_lines(f"{printable(point.key)} = {point.value:.10g}  (step {point.step})")


def _print_csv(points: Iterable[Metric]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("step", "time", "value"))
    writer.writerows((point.step, format_time(point.timestamp), repr(point.value)) for point in points)


def _print_json(points: Iterable[Metric]) -> None:
    click.echo("[", nl=False)
    for index, point in enumerate(points):
        click.echo(f"{',' if index else ''}\n  {msgspec.json.encode(point_row(point)).decode()}", nl=False)
    click.echo("\n]")


def point_row(point: Metric) -> dict[str, object]:
    """Return a point for JSON."""
    return {"step": point.step, "time": format_time(point.timestamp), "value": json_number(point.value)}


def json_number(value: float) -> float | str:
    """Return a number for JSON; NaN and infinities become text."""
    return value if math.isfinite(value) else repr(value)
