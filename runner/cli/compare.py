"""``proj compare``: shows the differences between runs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import click
import msgspec

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.options import reads_runs
from runner.cli.run_source import open_runs
from runner.cli.tables import Layout, is_number, longest_number, print_table, terminal_width
from runner.cli.text import print_lines, print_message, printable
from runner.errors import SnapshotError, UsageError
from runner.model import RunRecord
from runner.runs.comparison import OUTPUTS, SOURCES, Line, compare_runs
from runner.runs.reader import RunReader
from runner.settings import Home, open_home
from runner.source.restoring import FileChange, changes_between, patch_between
from runner.source.snapshot_store import has_run_commit

_SHOWN = 200
"""Characters shown of a value, starting shortly before the first difference; JSON has the whole value."""
_BEFORE = 20
_ROWS = 20
"""Packages and files shown without ``--all``."""
_SIDE_BY_SIDE = 4
"""Runs that are shown as columns; more runs are shown as rows."""
_NAME = 12
"""Width of the shortest names of compared items, if the terminal is narrow."""
_MINUS = "\N{MINUS SIGN}"
_SHORT = 12
"""Characters of ids and digests in a table with one row per run."""

Changes = Mapping[str, tuple[FileChange, ...]]
"""The changed files of each run, compared with the first one, by the run's id."""


@click.command("compare")
@click.argument("run", metavar="RUN RUN…", shell_complete=completions.runs, nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show equal values too.")
@click.option("--code", is_flag=True, help="Print the difference between the code of two runs as a patch.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: section, name, the value of each run.")
def compare(
    run: tuple[str, ...], everything: bool, code: bool, tracking_uri: str | None, local: bool, as_json: bool
) -> None:
    """Show the differences between runs: parameters, metrics, code, environment, packages, files and machine.

    Up to four runs are columns; more runs are rows. Changed files are compared with the first run.

    \b
    Examples:
      proj compare latest latest~1
      proj compare 7f3a 91bc --code
    """  # noqa: D301  # click reads the control character
    if len(run) == 1:
        raise UsageError("A comparison needs at least two runs", hint="`proj show RUN` shows one.")
    if code and len(run) != 2:  # noqa: PLR2004
        raise UsageError("--code compares exactly two runs")
    with open_runs(tracking_uri, local=local) as reader:
        if code:
            _print_patch(reader, run)
            return
        records = [reader.record(reference) for reference in run]
        changes = _changes(reader, run, records)
    lines = compare_runs(records, everything=everything)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_document(records, lines, changes)), indent=2))
    elif not lines and not changes:
        print_message("no differences")
    elif len(records) > _SIDE_BY_SIDE:
        _print_rows(records, lines, changes)
    else:
        files = _file_lines(records, changes)
        shown = (*lines, *files) if everything else (*_shortened(records, lines), *files[:_ROWS])
        _print(records, shown)
        if len(files) > _ROWS and not everything:
            print_message(f"… and {counted(len(files) - _ROWS, 'more file')}; --all shows them")


def _print_patch(reader: RunReader, references: Sequence[str]) -> None:
    home = open_home()
    first, second = (reader.own_id(reference) for reference in references)
    for run_id in (first, second):
        if not has_run_commit(home, run_id):
            raise SnapshotError(f"The code of run {run_id[:8]} is not stored", hint=f"See `proj show {run_id[:8]}`.")
    patch = patch_between(first, second, home)
    if patch:
        click.echo(patch, nl=False)
    else:
        print_message("both runs have the same code")


def _changes(reader: RunReader, references: Sequence[str], records: Sequence[RunRecord]) -> Changes:
    """Return how the code of each run differs from the first one, as far as both are stored here."""
    home = open_home()
    first = reader.own_id(references[0])
    found = {
        record.run_id or "": _changes_of(first, reader.own_id(reference), home)
        for reference, record in zip(references[1:], records[1:], strict=True)
        if record.code is not None and records[0].code is not None and record.code.tree != records[0].code.tree
    }
    return {run_id: files for run_id, files in found.items() if files}


def _changes_of(first: str, second: str, home: Home) -> tuple[FileChange, ...]:
    if not (has_run_commit(home, first) and has_run_commit(home, second)):
        return ()
    return changes_between(first, second, home)


def _document(records: Sequence[RunRecord], lines: tuple[Line, ...], changes: Changes) -> dict[str, object]:
    sections: dict[str, dict[str, object]] = {}
    for line in lines:
        sections.setdefault(line.section, {})[line.name] = line.values
    return {"runs": [record.run_id for record in records], "differences": sections, "changed_files": changes}


def _file_lines(records: Sequence[RunRecord], changes: Changes) -> list[Line]:
    """Return a line for each changed file, with the changed lines of each run."""
    each = [{one.path: _counts(one) for one in changes.get(record.run_id or "", ())} for record in records]
    paths = sorted({path for files in each for path in files})
    return [Line(section="files", name=path, values=tuple(files.get(path) for files in each)) for path in paths]


def _counts(change: FileChange) -> str:
    if change.added is None or change.removed is None:
        return "binary"
    return (
        " ".join(f"{sign}{count}" for sign, count in (("+", change.added), (_MINUS, change.removed)) if count) or "mode"
    )


def _shortened(records: Sequence[RunRecord], lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Replace the lines of a section by one summary line if there are many, or if they repeat what others say."""
    totals: Mapping[str, Callable[[RunRecord], str]] = {
        "packages": lambda record: f"{len(record.environment.packages) if record.environment else 0} installed",
        OUTPUTS: lambda record: f"{len(record.outputs)} files",
        SOURCES: _count_sources,
    }
    for section, total in totals.items():
        found = [line for line in lines if line.section == section]
        if len(found) > (0 if section == SOURCES else _ROWS):
            count = "1 differs; --all shows it" if len(found) == 1 else f"{len(found)} differ; --all shows them"
            summary = Line(section=section, name=count, values=tuple(map(total, records)))
            first = lines.index(found[0])
            lines = (*lines[:first], summary, *lines[first + len(found) :])
    return lines


def _count_sources(record: RunRecord) -> str:
    counts = Counter(parameter.source for parameter in record.parameters)
    return ", ".join(f"{count} {source}" for source, count in sorted(counts.items()))


def _print(records: Sequence[RunRecord], lines: Sequence[Line]) -> None:
    """Print one row for each line, with a column for each run."""
    heads = [f"{(record.run_id or '')[:8]} {printable(record.run_name or '')}" for record in records]
    rows = []
    section = ""
    for line in lines:
        rows.append(("" if line.section == section else line.section, line.name, *_cells(line.values)))
        section = line.section
    by_column = list(zip(*rows, strict=True))
    least = sum(max(len(heads[0][:8]), longest_number(texts)) + 2 for texts in by_column[2:])
    if max(map(len, by_column[0])) + _NAME + 4 + least > terminal_width():
        _print_stacked(heads, lines)
    else:
        print_table(("", "", *heads), rows, layout=Layout(fixed=2))


def _print_stacked(heads: Sequence[str], lines: Sequence[Line]) -> None:
    """Print the values below each other, for terminals that are too narrow for a table of them."""
    section = ""
    for line in lines:
        title = "" if line.section == section else f"\n{line.section}\n"
        section = line.section
        values = (f"    {head[:8]}  {value}" for head, value in zip(heads, _cells(line.values), strict=True))
        print_lines("\n".join([f"{title}  {line.name}", *values]))


def _print_rows(records: Sequence[RunRecord], lines: Sequence[Line], changes: Changes) -> None:
    """Print one row for each run, with a column for each value that differs; packages are left out."""
    shown = [line for line in lines if line.section not in ("packages", OUTPUTS, SOURCES)]
    names = [line.name for line in shown]
    order = {"metrics": 0, "parameters": 1, "run": 2, "code": 3, "environment": 4, "inputs": 5}
    shown.sort(key=lambda line: order.get(line.section, len(order)))
    titles = ["run", "name"]
    columns = [[(record.run_id or "")[:8] for record in records], [record.run_name or "" for record in records]]
    for line in shown:
        titles.append(
            line.name if names.count(line.name) == 1 and line.name != "name" else f"{line.section}.{line.name}"
        )
        columns.append([_short(line.section, value) for value in line.values])
    if changes:
        titles.append("changed files")
        columns.append([_summary(changes.get(record.run_id or "", ())) for record in records])
    numbers = frozenset(
        title
        for title, cells in zip(titles[2:], columns[2:], strict=True)
        if all(map(is_number, filter("-".__ne__, cells)))
    )
    layout = Layout(drop_order=[*reversed(titles[2:]), "name"], fixed=len(titles), numbers=numbers, longest=24)
    dropped = print_table(titles, list(zip(*columns, strict=True)), layout=layout)
    if dropped:
        print_message(f"not shown: {', '.join(map(printable, dropped))}; use a wider terminal or --json")
    for section in ("packages", OUTPUTS):
        count = sum(line.section == section for line in lines)
        if count:
            print_message(f"{section} that differ: {count}; compare two of the runs, or use --json, to see them")


def _short(section: str, value: str | float | None) -> str:
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else value
    return text.removeprefix("sha256 ")[:_SHORT] if section in ("code", "environment", "inputs", OUTPUTS) else text


def _summary(files: Sequence[FileChange]) -> str:
    if len(files) < 2:  # noqa: PLR2004
        return "".join(f"{one.path} {_counts(one)}" for one in files)
    added, removed = sum(one.added or 0 for one in files), sum(one.removed or 0 for one in files)
    return f"{counted(len(files), 'file')} +{added} {_MINUS}{removed}"


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
