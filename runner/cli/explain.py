"""``proj explain``: finds out by experiment why the results of two runs differ."""

from collections.abc import Sequence

import click
import msgspec

from runner.base.durations import format_duration, seconds_of
from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE, read_pairs
from runner.cli.progress_line import showing_progress
from runner.cli.tables import print_table
from runner.cli.text import print_lines, print_message, printable, show_event, show_hints_once
from runner.errors import UsageError
from runner.explanation.explaining import ExplainRequest, explain
from runner.explanation.model import Explanation
from runner.reproduction.causes import Cause
from runner.store.database import Database

_SHOWN = 20
"""Recorded differences that are listed; JSON has all."""
_LONGEST = 40

BUDGET = click.option(
    "--budget", metavar="TIME", default="30m", show_default=True, help="Time for the runs that look for the cause."
)


def read_budget(text: object) -> float:
    """Return the time of ``--budget`` in seconds.

    Raises:
        UsageError: the text is not a time.
    """
    seconds = seconds_of(text) if isinstance(text, str) else None
    if not seconds:
        raise UsageError(f"--budget {text!r} is not a time", hint="for example 90s, 10m or 1h30m")
    return seconds


def read_number(value: object) -> float | None:
    """Return the value of an option that takes a number, None without it."""
    return value if isinstance(value, float) else None


@click.command("explain")
@click.argument("original", metavar="RUN", shell_complete=completions.runs)
@click.argument("other", metavar="RUN", shell_complete=completions.runs)
@BUDGET
@click.option(
    "--input", "moved", multiple=True, metavar="NAME=PATH", help="A file with content of an input; repeatable."
)
@click.option("-P", "secrets", multiple=True, metavar="NAME=VALUE", help="The value of a secret parameter; repeatable.")
@click.option("--rtol", type=click.FloatRange(min=0), metavar="NUMBER", help="Difference that is none, relative.")
@click.option("--atol", type=click.FloatRange(min=0), metavar="NUMBER", help="Difference that is none, absolute.")
@OFFLINE
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain_runs(original: str, other: str, as_json: bool, **options: str | float | tuple[str, ...] | None) -> int:
    r"""Find out why the results of the second RUN differ from those of the first one.

    The first run is made again with groups of the recorded differences, then with parts of the group that matters. Only
    what was tested is called a cause. The runs that this takes are recorded, nested in the second run. Exits with 0
    only if all that differs is explained.

    \b
    Examples:
      proj explain latest~1 latest
      proj explain 7f3a09c1 51b2d8aa --budget 2h --json
    """
    request = ExplainRequest(
        original=original,
        other=other,
        inputs=read_pairs("--input", options["moved"]),
        parameters=read_pairs("-P", options["secrets"]),
        rtol=read_number(options["rtol"]),
        atol=read_number(options["atol"]),
        budget=read_budget(options["budget"]),
    )
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    with showing_progress():
        found = explain(request, home, show_hints_once(show_event))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _print(found)
    return 0 if found.is_complete else 1


def _print(found: Explanation) -> None:
    if not found.results:
        print_lines(f"runs {found.original[:8]} and {found.other[:8]} have the same results")
        return
    print_lines(f"runs {found.original[:8]} and {found.other[:8]} differ in: {', '.join(found.results)}")
    if found.causes:
        print_causes(found.causes)
    if found.undecided:
        print_lines(f"  not decided: {found.undecided}")
    count, took = len(found.runs), format_duration(found.seconds)
    print_message(f"  {count} runs in {took}, {len(found.differences)} recorded differences")
    if not found.causes and found.differences:
        for one in found.differences[:_SHOWN]:
            print_message(f"  {one.kind.value} {printable(one.name)}: {one.original} then {one.other}")
    print_message(f"  next: proj compare {found.original[:8]} {found.other[:8]}")


def print_causes(causes: Sequence[Cause]) -> None:
    """Print a table of causes, the proven ones first."""
    rows = []
    for one in sorted(causes, key=lambda one: not one.proven):
        word = "proven" if one.proven else "suspected"
        values = [printable(value[:_LONGEST]) if value is not None else "-" for value in (one.original, one.other)]
        runs = " ".join(run_id[:8] for run_id in one.evidence)
        rows.append((word, one.kind.value, printable(one.name), *values, runs, printable(one.detail or "")))
    print_table(("cause", "kind", "name", "original", "other", "runs", "why"), rows)
