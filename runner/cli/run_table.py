"""Prints runs as a table for people: what differs between them, with the primary metric first."""

import sys
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from runner.cli.columns import Column, fixed_column, keys_of
from runner.cli.output import short_time
from runner.cli.tables import Layout, is_number, print_table
from runner.cli.text import print_message, printable
from runner.model import RunRecord
from runner.runs.primary_metric import PrimaryMetric, best_runs

COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "red", "LOST": "red", "RUNNING": "yellow"}

_MARKS = {"max": "▲", "min": "▼"}
"""Marks of the best value of a metric."""
_FIRST_PARAMS = 4
_FIRST_METRICS = 2
"""Parameters, and metrics beside the primary ones, that are left out only after less important columns."""
_LONGEST = 24
"""Terminal cells of one text in the table; CSV and JSON have the whole text."""
_MOST_METRICS = 20
_NAMED = 4
"""Columns that the message about left-out columns names."""


class Listing(Struct, frozen=True, kw_only=True):
    """The runs of a list. ``depths`` has the nesting of runs in a tree, ``nested`` the number of folded children."""

    records: Sequence[RunRecord]
    primary: Sequence[PrimaryMetric] = ()
    depths: Mapping[str, int] = {}
    nested: Mapping[str, int] = {}


class _Cells(Struct, frozen=True, kw_only=True):
    """A column with its cells. Columns with a lower rank are left out later."""

    title: str
    key: str
    cells: list[str]
    rank: int
    is_number: bool = False


def print_runs(listing: Listing) -> None:
    """Print runs with the columns in which they differ, as many as fit the terminal."""
    columns = _with_titles(list(_columns(listing)))
    by_rank = sorted(columns, key=lambda one: one.rank, reverse=True)
    layout = Layout(
        drop_order=[one.title for one in by_rank if one.rank],
        fixed=len(columns),
        numbers=frozenset(one.title for one in columns if one.is_number),
        longest=_LONGEST,
    )
    rows = list(zip(*(one.cells for one in columns), strict=True))
    dropped = print_table([one.title for one in columns], rows, COLOURS, layout)
    if dropped:
        names = ", ".join(map(printable, dropped[:_NAMED]))
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        print_message(f"not shown: {names}{more}; choose with --columns, or use a wider terminal or --csv")


def print_columns(columns: Sequence[Column], records: Sequence[RunRecord]) -> None:
    """Print runs with the columns that the user chose."""
    rows = [[column.text(record) for column in columns] for record in records]
    numbers = {column.title for number, column in enumerate(columns) if all(is_number(row[number]) for row in rows)}
    print_table([column.title for column in columns], rows, COLOURS, Layout(numbers=frozenset(numbers)))


def _columns(listing: Listing) -> Iterator[_Cells]:
    """Yield the columns from left to right."""
    records, primary = listing.records, [one.name for one in listing.primary]
    yield _Cells(title="run", key="run", cells=[_indented(record, listing.depths) for record in records], rank=0)
    yield _fixed("name", records, 30)
    if any(listing.nested.values()):
        cells = [_nested(record, listing.nested) for record in records]
        yield _Cells(title="nested", key="nested", cells=cells, rank=5)
    for name, rank in (("experiment", 30_001), ("entry point", 30_002)):
        column = _fixed(name, records, rank)
        if len(set(column.cells)) > 1:
            yield column
    yield _fixed("status", records, 0)
    verdicts = _fixed("verdict", records, 15)
    if any(verdicts.cells):
        yield verdicts
    for metric in listing.primary:
        yield _best(metric, records)
    params = [{one.name: one.value for one in record.parameters} for record in records]
    for number, name in enumerate(_differing(params)):
        yield _param(name, params, number + (10 if number < _FIRST_PARAMS else 50))
    others = [name for name in sorted(keys_of("metrics", records)) if name not in primary]
    for number, name in enumerate(others[:_MOST_METRICS]):
        cells = [f"{record.metrics[name]:.5g}" if name in record.metrics else "" for record in records]
        rank = number + (40 if number < _FIRST_METRICS else 10_000)
        yield _Cells(title=name, key=f"metrics.{name}", cells=cells, rank=rank, is_number=True)
    started = [short_time(record.started_at) for record in records] if sys.stdout.isatty() else None
    yield _fixed("started", records, 20, started)
    yield _fixed("took", records, 20_000)
    yield _fixed("code", records, 9_000)


def _fixed(name: str, records: Sequence[RunRecord], rank: int, cells: list[str] | None = None) -> _Cells:
    text = fixed_column(name).text
    shown = [text(record) for record in records] if cells is None else cells
    return _Cells(title=name, key=name, cells=shown, rank=rank)


def _param(name: str, params: Sequence[Mapping[str, str]], rank: int) -> _Cells:
    cells = [values.get(name, "") for values in params]
    if sys.stdout.isatty():  # paths differ at their ends
        cells = [f"…{cell[1 - _LONGEST :]}" if len(cell) > _LONGEST else cell for cell in cells]
    are_numbers = all(is_number(cell) for cell in cells if cell)
    return _Cells(title=name, key=f"params.{name}", cells=cells, rank=rank, is_number=are_numbers)


def _best(metric: PrimaryMetric, records: Sequence[RunRecord]) -> _Cells:
    best = best_runs(records, metric)
    values = [f"{record.metrics[metric.name]:.5g}" if metric.name in record.metrics else "" for record in records]
    marks = [_MARKS[metric.goal or "max"] if record.run_id in best else " " for record in records]
    cells = [f"{value} {mark}" for value, mark in zip(values, marks, strict=True)] if best else values
    return _Cells(title=metric.name, key=f"metrics.{metric.name}", cells=cells, rank=1, is_number=True)


def _indented(record: RunRecord, depths: Mapping[str, int]) -> str:
    depth, short = depths.get(record.run_id or "", 0), (record.run_id or "")[:8]
    return f"{'  ' * (depth - 1)}└ {short}" if depth else short


def _nested(record: RunRecord, nested: Mapping[str, int]) -> str:
    count = nested.get(record.run_id or "", 0)
    return f"+{count}" if count else ""


def _differing(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that differ between runs, those that most runs have first."""
    found: dict[str, list[str]] = {}
    for values in params:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    names = [name for name, values in found.items() if len(values) < len(params) or len(set(values)) > 1]
    return sorted(names, key=lambda name: -len(found[name]))


def _with_titles(columns: list[_Cells]) -> list[_Cells]:
    """Return the columns with unique titles: a parameter and a metric of the same name get their full names."""
    titles = [column.title for column in columns]
    return [
        column
        if titles.count(column.title) == 1 or column.key == column.title
        else _Cells(title=column.key, key=column.key, cells=column.cells, rank=column.rank, is_number=column.is_number)
        for column in columns
    ]
