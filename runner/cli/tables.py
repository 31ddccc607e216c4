"""Tables: for people in columns, for programs as CSV."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from runner.cli.reading import clean

if TYPE_CHECKING:
    from rich.console import OverflowMethod

_WHOLE = {"run": 8, "id": 32, "status": 9}
"""Columns that are never cut, and their widths: what they say is typed again, or is short."""
_LEAST_LAST = 30
"""Characters that the last column has at least before it is broken."""
_GAP = 3


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[str, str] | None = None,
    gives_way: Sequence[str] = (),
    whole: int | None = None,
) -> None:
    """Print rows below their titles; a cell that is a key of ``colours`` is shown so.

    The last column may be broken into lines, or all but the first ``whole`` ones.
    On a terminal that is too narrow the columns of ``gives_way`` are left out, in this order, until the others fit.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width; nothing may be cut off there.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    kept = _fitting(titles, rows, console.width, gives_way)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number in kept:
        is_whole = number != kept[-1] if whole is None else number < whole
        title = titles[number]
        overflow: OverflowMethod = "ellipsis" if is_whole else "fold"
        table.add_column(clean(title), no_wrap=is_whole, overflow=overflow, min_width=_WHOLE.get(title))
    for row in rows:
        cells = (row[number] for number in kept)
        table.add_row(*(Text(clean(cell), style=(colours or {}).get(cell, "")) for cell in cells))
    console.print(table)


def _fitting(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, gives_way: Sequence[str]) -> list[int]:
    """Return the numbers of the columns that fit."""
    widths = [max(len(title), *(len(row[number]) for row in rows), 0) for number, title in enumerate(titles)]
    widths[-1] = min(widths[-1], _LEAST_LAST)
    kept = list(range(len(titles)))
    for title in gives_way:
        if sum(widths[number] + _GAP for number in kept) <= width:
            break
        if title in titles:
            kept.remove(titles.index(title))
    return kept


def print_csv(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as CSV, as RFC 4180 has it but for the line ends."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
