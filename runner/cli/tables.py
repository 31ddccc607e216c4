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
_GAP = 2
_LEAST = 4
_NO_LIMIT = 10_000
"""Width for output that is not a terminal: nothing is cut."""


class Layout(Struct, frozen=True, kw_only=True):
    """How a table fits a terminal.

    If the terminal is too narrow, columns of ``drop_order`` are left out, the first one first; a column that still fits
    beside more important ones is kept.
    All columns but the first ``fixed`` ones are wrapped if they are still too wide; by default only the last one is.
    Columns of ``numbers`` are aligned to the right, and never cut or wrapped. Other cells are cut to ``longest``.
    """

    drop_order: Sequence[str] = ()
    fixed: int | None = None
    numbers: frozenset[str] = frozenset()
    longest: int | None = None


class _Column(Struct, frozen=True):
    """The width of a column in terminal cells, and how its cells are fitted into it."""

    width: int
    folds: bool
    is_number: bool = False


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[str, str] | None = None,
    layout: Layout = Layout(),  # noqa: B008  frozen
) -> tuple[str, ...]:
    """Print rows below their titles, and return the titles of the columns that were left out.

    A cell that is a key of ``colours`` gets that colour.
    """
    is_terminal = sys.stdout.isatty()
    width = terminal_width()
    if is_terminal and layout.longest is not None:
        rows = [[_cut(cell, layout.longest) for cell in row] for row in rows]
    shown = _fitting(titles, rows, width, layout.drop_order)
    heads = [printable(titles[number]) for number in shown]
    cells = _printable_rows(rows, shown)
    numbers = frozenset(index for index, number in enumerate(shown) if titles[number] in layout.numbers)
    columns = _columns(heads, cells, width, len(shown) - 1 if layout.fixed is None else layout.fixed, numbers)
    painted = colours if is_terminal and not os.environ.get("NO_COLOR") else None
    bold = dict.fromkeys(heads, "") if painted is not None else None
    lines = ["", *_lines(heads, columns, bold), " " + "─" * (sum(one.width + _GAP for one in columns) - _GAP)]
    plain = _plain_lines(cells, columns) if painted is None else None
    if plain is None:
        plain = [line for row in cells for line in _lines(row, columns, painted)]
    lines += plain
    click.echo("\n".join([*lines, ""]))
    return tuple(title for number, title in enumerate(titles) if number not in shown)


def longest_number(texts: Sequence[str]) -> int:
    """Return the length of the longest number among texts; numbers are neither cut nor wrapped."""
    return max((len(text) for text in texts if is_number(text)), default=0)


def is_number(text: str) -> bool:
    """Return whether a text is a number, also NaN or infinite."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def terminal_width() -> int:
    """Return the columns of the terminal; a very large number if the output is no terminal, and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _NO_LIMIT


def _printable_rows(rows: Sequence[Sequence[str]], shown: Sequence[int]) -> Sequence[Sequence[str]]:
    """Return these columns of the rows; letters are only looked at in columns with unprintable ones."""
    by_column = list(zip(*rows, strict=True))
    chosen = [by_column[number] for number in shown] if by_column else []
    return list(zip(*(one if "".join(one).isprintable() else list(map(printable, one)) for one in chosen), strict=True))


def _width(texts: Sequence[str]) -> int:
    """Return the terminal cells of the longest text."""
    return max(map(len if "".join(texts).isascii() else _cells, texts), default=0)


def _columns(
    heads: Sequence[str], cells: Sequence[Sequence[str]], width: int, fixed: int, numbers: frozenset[int]
) -> list[_Column]:
    """Return the columns with widths that fit the terminal; columns that can be wrapped shrink first."""
    by_column = list(zip(*cells, strict=True)) or [() for _ in heads]
    widths = [
        max(_WHOLE.get(head, 1), _cells(head), _width(texts)) for head, texts in zip(heads, by_column, strict=True)
    ]
    whole = [longest_number(texts) if number >= fixed else 0 for number, texts in enumerate(by_column)]
    for least, columns in ((_LEAST_LAST, range(fixed, len(heads))), (_LEAST, range(len(heads)))):
        excess = sum(widths) + _GAP * (len(widths) - 1) + 1 - width
        for _ in range(max(0, excess)):
            # The widest column shrinks by one cell at a time, so that the widths become equal.
            free = [
                number
                for number in columns
                if number not in numbers and widths[number] > max(least, _WHOLE.get(heads[number], 0), whole[number])
            ]
            if not free:
                break
            widths[max(free, key=widths.__getitem__)] -= 1
    return [_Column(cell_width, number >= fixed, number in numbers) for number, cell_width in enumerate(widths)]


def _plain_lines(rows: Sequence[Sequence[str]], columns: Sequence[_Column]) -> list[str] | None:
    """Return the lines of rows that need no wrapping and no colours, padded column by column; None for other rows."""
    padded = []
    for texts, one in zip(zip(*rows, strict=True), columns, strict=False):
        if max(map(len, texts)) > one.width or not all(text.isascii() or _cells(text) == len(text) for text in texts):
            return None
        padded.append([text.rjust(one.width) if one.is_number else text.ljust(one.width) for text in texts])
    gap = " " * _GAP
    return [" " + gap.join(row).rstrip() for row in zip(*padded, strict=True)]


def _lines(row: Sequence[str], columns: Sequence[_Column], colours: Mapping[str, str] | None) -> Iterator[str]:
    """Yield the lines of a row; wrapped cells need several."""
    sizes = [len(cell) if cell.isascii() else _cells(cell) for cell in row]
    if all(size <= one.width for size, one in zip(sizes, columns, strict=True)):
        yield _line(row, sizes, columns, row, colours)
        return
    pieces = [
        list(_folded(cell, one.width)) if one.folds else [_cut(cell, one.width)]
        for cell, one in zip(row, columns, strict=True)
    ]
    for number in range(max(map(len, pieces))):
        texts = [found[number] if number < len(found) else "" for found in pieces]
        yield _line(texts, list(map(_cells, texts)), columns, row, colours)


def _line(
    texts: Sequence[str],
    sizes: Sequence[int],
    columns: Sequence[_Column],
    row: Sequence[str],
    colours: Mapping[str, str] | None,
) -> str:
    """Return one line of a row; the colour of a text is that of its whole cell."""
    shown = []
    for text, size, one, cell in zip(texts, sizes, columns, row, strict=True):
        padding = " " * (one.width - size)
        colour = None if colours is None else colours.get(cell)
        styled = text if colour is None else click.style(text, fg=colour or None, bold=not colour or None)
        shown.append(padding + styled if one.is_number else styled + padding)
    return " " + (" " * _GAP).join(shown).rstrip()


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
    if width >= _NO_LIMIT:
        return list(range(len(titles)))
    by_column = list(zip(*rows, strict=True)) or [() for _ in titles]
    widths = [max(_cells(title), _width(texts)) for title, texts in zip(titles, by_column, strict=True)]
    widths[-1] = min(widths[-1], _LEAST_LAST)
    shown = [number for number, title in enumerate(titles) if title not in drop_order]
    for title in reversed(drop_order):
        number = titles.index(title) if title in titles else None
        if number is not None and sum(widths[one] + _GAP for one in (*shown, number)) - _GAP + 1 <= width:
            shown.append(number)
    return sorted(shown)


def print_csv(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as CSV (RFC 4180, with LF line ends)."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
