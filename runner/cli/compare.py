"""``proj compare``: shows the differences between runs."""

from itertools import takewhile

import click
import msgspec

from runner.cli import completions
from runner.cli.options import reads_runs
from runner.cli.run_source import open_runs
from runner.cli.tables import print_table
from runner.cli.text import print_message, printable
from runner.errors import UsageError
from runner.model import RunRecord
from runner.runs.comparison import Line, compare_runs

_SHOWN = 200
"""Characters shown of a value, starting shortly before the first difference; JSON has the whole value."""
_BEFORE = 20
_PACKAGES = 20
"""Packages shown without ``--all``."""


@click.command("compare")
@click.argument("run", metavar="RUN RUN…", shell_complete=completions.runs, nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show equal values too.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: section, name, the value of each run.")
def compare(run: tuple[str, ...], everything: bool, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """Show the differences between runs: parameters, metrics, code, environment, packages and inputs."""
    if len(run) == 1:
        raise UsageError("A comparison needs at least two runs")
    with open_runs(tracking_uri, local=local) as reader:
        records = [reader.record(name) for name in run]
    lines = compare_runs(records, everything=everything)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_document(records, lines)), indent=2))
    elif lines:
        _print(records, lines if everything else _summarised(records, lines))
    else:
        print_message("no differences")


def _document(records: list[RunRecord], lines: tuple[Line, ...]) -> dict[str, object]:
    sections: dict[str, dict[str, object]] = {}
    for line in lines:
        sections.setdefault(line.section, {})[line.name] = line.values
    return {"runs": [record.run_id for record in records], "differences": sections}


def _summarised(records: list[RunRecord], lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Replace the lines of packages by one summary line if there are many."""
    packages = [line for line in lines if line.section == "packages"]
    if len(packages) <= _PACKAGES:
        return lines
    counts = tuple(f"{len(record.environment.packages) if record.environment else 0} installed" for record in records)
    summary = Line(section="packages", name=f"{len(packages)} differ; --all shows them", values=counts)
    first = lines.index(packages[0])
    return (*lines[:first], summary, *lines[first + len(packages) :])


def _print(records: list[RunRecord], lines: tuple[Line, ...]) -> None:
    titles = ("", "", *(f"{(record.run_id or '')[:8]} {printable(record.run_name or '')}" for record in records))
    rows = []
    section = ""
    for line in lines:
        rows.append(("" if line.section == section else line.section, line.name, *_cells(line.values)))
        section = line.section
    print_table(titles, rows, fixed=2)


def _cells(values: tuple[str | float | None, ...]) -> list[str]:
    texts = ["-" if value is None else f"{value:.10g}" if isinstance(value, float) else value for value in values]
    longest = max(map(len, texts))
    if longest <= _SHOWN:
        return texts
    start = max(0, min(_common(texts), longest - _SHOWN) - _BEFORE)
    return [_part(text, start) for text in texts]


def _common(texts: list[str]) -> int:
    """Return the length of the common prefix."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False)))


def _part(text: str, start: int) -> str:
    end = start + _SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if text[end:] else ''}"
