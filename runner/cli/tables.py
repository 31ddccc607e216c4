"""Prints tables: as columns for people, as CSV for programs.

The columns are laid out here: importing a table library takes longer than everything else in `proj list`.
"""

import csv
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click
from msgspec import Struct

from runner.cli.text import printable

_WHOLE = {"run": 8, "id": 32, "status": 9}
"""Columns that are never cut, with their widths: users copy these values, or they are short."""
_LEAST_LAST = 30
"""Minimal width of the last column before its text is wrapped."""
_GAP = 3
_LEAST = 4
_NO_LIMIT = 10_000
"""Width for output that is not a terminal: nothing is cut."""


class _Column(Struct, frozen=True):
    """The width of a column in terminal cells, and whether longer text is wrapped instead of cut."""

    width: int
    folds: bool


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[str, str] | None = None,
    drop_order: Sequence[str] = (),
    fixed: int | None = None,
) -> None:
    """Print rows below their titles; a cell that is a key of ``colours`` gets that colour.

    All columns but the first ``fixed`` ones are wrapped if they are too wide; by default only the last one is.
    If the terminal is too narrow, the columns of ``drop_order`` are left out, in this order, until the others fit.
    """
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _NO_LIMIT
    shown = _fitting(titles, rows, width, drop_order)
    heads = [printable(titles[number]) for number in shown]
    cells = [[printable(row[number]) for number in shown] for row in rows]
    columns = _columns(heads, cells, width, len(shown) - 1 if fixed is None else fixed)
    painted = colours if is_terminal and not os.environ.get("NO_COLOR") else None
    bold = dict.fromkeys(heads, "") if painted is not None else None
    lines = ["", *_lines(heads, columns, bold), " " + "─" * (sum(one.width + _GAP for one in columns) - _GAP)]
    for row in cells:
        lines += _lines(row, columns, painted)
    click.echo("\n".join([*lines, ""]))


def _columns(heads: Sequence[str], cells: Sequence[Sequence[str]], width: int, fixed: int) -> list[_Column]:
    """Return the columns with widths that fit the terminal; columns that can be wrapped shrink first."""
    widths = [
        max(_WHOLE.get(head, 1), _cells(head), *(_cells(row[number]) for row in cells), 0)
        for number, head in enumerate(heads)
    ]
    for least, numbers in ((_LEAST_LAST, range(fixed, len(heads))), (_LEAST, range(len(heads)))):
        excess = sum(widths) + _GAP * (len(widths) - 1) + 1 - width
        for _ in range(max(0, excess)):
            # The widest column shrinks by one cell at a time, so that the widths become equal.
            free = [number for number in numbers if widths[number] > max(least, _WHOLE.get(heads[number], 0))]
            if not free:
                break
            widths[max(free, key=widths.__getitem__)] -= 1
    return [_Column(cell_width, number >= fixed) for number, cell_width in enumerate(widths)]


def _lines(row: Sequence[str], columns: Sequence[_Column], colours: Mapping[str, str] | None) -> Iterator[str]:
    """Yield the lines of a row; wrapped cells need several."""
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
    """Cut a text to at most ``width`` terminal cells; an ellipsis marks the cut."""
    return text if _cells(text) <= width else f"{next(_folded(text, width - 1))}…"


def _folded(text: str, width: int) -> Iterator[str]:
    """Wrap a text into pieces of at most ``width`` terminal cells, at spaces if possible."""
    while _cells(text) > width:
        end = size = 0
        while size + _cells(text[end]) <= width or not end:
            size += _cells(text[end])
            end += 1
        space = text.rfind(" ", 0, end + 1)
        cut = space if space > 0 else end
        yield text[:cut]
        text = text[cut:].lstrip(" ")
    yield text


def _cells(text: str) -> int:
    """Return the terminal cells that a text needs: two for East Asian wide letters, none for combining marks."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _fitting(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, drop_order: Sequence[str]) -> list[int]:
    """Return the indices of the columns that fit."""
    widths = [max(len(title), *(len(row[number]) for row in rows), 0) for number, title in enumerate(titles)]
    widths[-1] = min(widths[-1], _LEAST_LAST)
    shown = list(range(len(titles)))
    for title in drop_order:
        if sum(widths[number] + _GAP for number in shown) <= width:
            break
        if title in titles:
            shown.remove(titles.index(title))
    return shown


def print_csv(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as CSV (RFC 4180, with LF line ends)."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
