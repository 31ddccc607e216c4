"""``proj compare``: in what runs differ."""

import click
import msgspec

from runner.cli import completing
from runner.cli.reading import clean
from runner.cli.tables import print_table
from runner.cli.text import say
from runner.cli.whose import open_runs
from runner.cli.words import reads_runs
from runner.comparison import Line, compare_runs
from runner.errors import UsageError
from runner.model import RunRecord

_SHOWN = 40
"""Characters of a value; JSON has all."""


@click.command("compare")
@click.argument("run", metavar="RUN RUN…", shell_complete=completing.runs, nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="What is equal too.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: section, name, the value of each run.")
def compare(run: tuple[str, ...], everything: bool, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """Show in what runs differ: parameters, metrics, code, environment and its packages, inputs."""
    if len(run) == 1:
        raise UsageError("One run is equal to itself; name two or more")
    with open_runs(tracking_uri, local=local) as reader:
        records = [reader.record(word) for word in run]
    lines = compare_runs(records, everything=everything)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_document(records, lines)), indent=2))
    elif lines:
        _print(records, lines)
    else:
        say("no differences")


def _document(records: list[RunRecord], lines: tuple[Line, ...]) -> dict[str, object]:
    sections: dict[str, dict[str, object]] = {}
    for line in lines:
        sections.setdefault(line.section, {})[line.name] = line.values
    return {"runs": [record.run_id for record in records], "differences": sections}


def _print(records: list[RunRecord], lines: tuple[Line, ...]) -> None:
    titles = ("", "", *(f"{(record.run_id or '')[:8]} {clean(record.run_name or '')}" for record in records))
    rows = []
    section = ""
    for line in lines:
        rows.append(("" if line.section == section else line.section, line.name, *map(_cell, line.values)))
        section = line.section
    print_table(titles, rows)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.10g}" if isinstance(value, float) else value
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
