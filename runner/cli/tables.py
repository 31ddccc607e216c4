"""Tables: for people in columns, for programs as CSV.

The columns are set here: loading a library for that takes longer than all else that `proj list` does.
"""

import csv
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click
from msgspec import Struct

from runner.cli.output import clean

_WHOLE = {"run": 8, "id": 32, "status": 9}
"""Columns that are never cut, and their widths: what they say is typed again, or is short."""
_LEAST_LAST = 30
"""Characters that the last column has at least before it is broken."""
_GAP = 3
_LEAST = 4
_NO_LIMIT = 10_000
"""A pipe has no width; nothing may be cut off there."""


class _Column(Struct, frozen=True):
    """How a column is shown: in how many cells of a terminal, and whether what does not fit goes on below."""

    width: int
    folds: bool


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
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _NO_LIMIT
    kept = _fitting(titles, rows, width, gives_way)
    heads = [clean(titles[number]) for number in kept]
    cells = [[clean(row[number]) for number in kept] for row in rows]
    columns = _columns(heads, cells, width, len(kept) - 1 if whole is None else whole)
    painted = colours if is_terminal and not os.environ.get("NO_COLOR") else None
    bold = dict.fromkeys(heads, "") if painted is not None else None
    lines = ["", *_lines(heads, columns, bold), " " + "─" * (sum(one.width + _GAP for one in columns) - _GAP)]
    for row in cells:
        lines += _lines(row, columns, painted)
    click.echo("\n".join([*lines, ""]))


def _columns(heads: Sequence[str], cells: Sequence[Sequence[str]], width: int, whole: int) -> list[_Column]:
    """Return how wide each column is; where all do not fit, those that can be broken give way first."""
    widths = [
        max(_WHOLE.get(head, 1), _cells(head), *(_cells(row[number]) for row in cells), 0)
        for number, head in enumerate(heads)
    ]
    for least, numbers in ((_LEAST_LAST, range(whole, len(heads))), (_LEAST, range(len(heads)))):
        excess = sum(widths) + _GAP * (len(widths) - 1) + 1 - width
        for _ in range(max(0, excess)):
            # The widest one loses a cell at a time, so that they become alike.
            free = [number for number in numbers if widths[number] > max(least, _WHOLE.get(heads[number], 0))]
            if not free:
                break
            widths[max(free, key=widths.__getitem__)] -= 1
    return [_Column(cell_width, number >= whole) for number, cell_width in enumerate(widths)]


def _lines(row: Sequence[str], columns: Sequence[_Column], colours: Mapping[str, str] | None) -> Iterator[str]:
    """Yield the lines of a row, in as many as its most broken cell needs."""
    pieces = [
        list(_folded(cell, one.width)) if one.folds else [_cut(cell, one.width)]
        for cell, one in zip(row, columns, strict=True)
    ]
    for number in range(max(map(len, pieces))):
        shown = []
        for cell, found, one in zip(row, pieces, columns, strict=True):
            piece = found[number] if number < len(found) else ""
            padding = " " * (one.width - _cells(piece))
            colour = None if colours is None else colours.get(cell)
            styled = piece if colour is None else click.style(piece, fg=colour or None, bold=not colour or None)
            shown.append(styled + padding)
        yield " " + (" " * _GAP).join(shown).rstrip()


def _cut(text: str, width: int) -> str:
    """Return a text that has at most so many cells; an ellipsis says that something is left out."""
    return text if _cells(text) <= width else f"{next(_folded(text, width - 1))}…"


def _folded(text: str, width: int) -> Iterator[str]:
    """Yield a text in pieces of at most so many cells, broken at spaces where there are some."""
    while _cells(text) > width:
        end = size = 0
        while size + _cells(text[end]) <= width or not end:
            size += _cells(text[end])
            end += 1
        space = text.rfind(" ", 0, end + 1)
        place = space if space > 0 else end
        yield text[:place]
        text = text[place:].lstrip(" ")
    yield text


def _cells(text: str) -> int:
    """Return how many cells of a terminal a text takes: East Asian letters two, marks above or below a letter none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


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
