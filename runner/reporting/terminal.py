"""Draws a chart with characters: Braille dots or letters, with axes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from runner.reporting.axes import Tick
from runner.reporting.chart import Chart, Line, Share

GLYPHS = "●■▲◆▼★"
"""Signs of curves in the legend if each has a colour of its own."""
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MOST = len(LETTERS)
"""Curves that one chart can have."""
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a Braille character by row and column (Unicode, chapter 21.1)."""
_LEAST_COLUMNS = 4
_ROWS_PER_TICK = 3
_COLUMNS_PER_TICK = 12


class Style(Struct, frozen=True, kw_only=True):
    """What the terminal can show: its size in cells, characters beyond ASCII, colours."""

    width: int
    height: int
    unicode: bool
    colour: bool

    def is_fine(self, count: int) -> bool:
        """Tell whether curves are drawn with Braille dots: only if they can be told apart without letters."""
        return self.unicode and (count == 1 or (self.colour and count <= len(GLYPHS)))

    def sign(self, index: int, count: int) -> str:
        """Return the sign of a curve in the legend."""
        if self.is_fine(count):
            return GLYPHS[index]
        return "*" if count == 1 else LETTERS[index]


Piece = tuple[str, int | None]
"""A text and the index of the curve that it belongs to."""
_Cells = dict[tuple[int, int], tuple[str, int]]
"""Characters and their curves by column and row; row 0 is the top."""


def draw(chart: Chart, style: Style) -> list[list[Piece]]:
    """Return the lines of a chart: the plot with its vertical axis, then the horizontal axis with labels and title."""
    rows = max(2, style.height - 3)
    ticks = _spread([(round((1 - chart.y.share(value)) * (rows - 1)), label) for value, label in _y_ticks(chart, rows)])
    indent = max(map(len, ticks.values()), default=0)
    columns = max(_LEAST_COLUMNS, style.width - indent - 2)
    cells = (_fine_cells if style.is_fine(len(chart.lines)) else _coarse_cells)(chart.lines, columns, rows, style)
    wall, mark = ("│", "┤") if style.unicode else ("|", "+")
    lines: list[list[Piece]] = []
    for row in range(rows):
        head = f"{ticks.get(row, ''):>{indent}} {mark if row in ticks else wall}"
        lines.append([(head, None), *_row(cells, row, columns)])
    below: list[Piece] = [(" " * (indent + 1) + text, None) for text in _x_axis(chart, columns, style)]
    return [*lines, *([piece] for piece in below)]


def _y_ticks(chart: Chart, rows: int) -> tuple[Tick, ...]:
    return chart.y.ticks(rows // _ROWS_PER_TICK + 1)


def _spread(placed: Sequence[tuple[int, str]]) -> dict[int, str]:
    """Return labels by row; of several in one row the first stays."""
    found: dict[int, str] = {}
    for row, label in placed:
        found.setdefault(row, label)
    return found


def _row(cells: _Cells, row: int, columns: int) -> Iterator[Piece]:
    """Yield the texts of a row; neighbours of one curve are one text."""
    text, owner = "", None
    for column in range(columns):
        letter, found = cells.get((column, row), (" ", None))
        if found != owner and text:
            yield text, owner
            text = ""
        text, owner = text + letter, found
    yield text.rstrip() if owner is None else text, owner


def _x_axis(chart: Chart, columns: int, style: Style) -> tuple[str, str, str]:
    corner, line, mark = ("└", "─", "┬") if style.unicode else ("+", "-", "+")
    axis, labels = [line] * columns, [" "] * (columns + 1)
    free = 0
    for value, label in chart.x.ticks(max(2, columns // _COLUMNS_PER_TICK)):
        row = round(chart.x.share(value) * (columns - 1))
        # The label stands below its tick, but not beyond the ends of the axis.
        start = min(max(0, row + 1 - len(label) // 2), columns + 1 - len(label))
        if start < free:
            continue
        axis[row] = mark
        labels[start : start + len(label)] = label
        free = start + len(label) + 1
    title = chart.x.title if len(chart.x.title) <= columns else ""
    return corner + "".join(axis), "".join(labels).rstrip(), f"{title:^{columns}}".rstrip()


def _fine_cells(lines: Sequence[Line], columns: int, rows: int, _style: Style) -> _Cells:
    bits: dict[tuple[int, int], int] = {}
    owners: dict[tuple[int, int], int] = {}
    for index, line in enumerate(lines):
        for x, y in _marks(line, 2 * columns, 4 * rows):
            cell = (x // 2, y // 4)
            bits[cell] = bits.get(cell, 0) | _DOTS[y % 4][x % 2]
            owners[cell] = index
    return {cell: (chr(_BRAILLE + value), owners[cell]) for cell, value in bits.items()}


def _coarse_cells(lines: Sequence[Line], columns: int, rows: int, style: Style) -> _Cells:
    return {
        cell: (style.sign(index, len(lines)), index)
        for index, line in enumerate(lines)
        for cell in _marks(line, columns, rows)
    }


def _marks(line: Line, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the grid positions of a curve; row 0 is the top."""
    for part in line.parts:
        cells = [_cell(share, width, height) for share in part]
        yield cells[0]
        for (x, y), (next_x, next_y) in pairwise(cells):
            steps = max(abs(next_x - x), abs(next_y - y))
            for step in range(1, steps + 1):
                yield x + round((next_x - x) * step / steps), y + round((next_y - y) * step / steps)


def _cell(share: Share, width: int, height: int) -> tuple[int, int]:
    return round(share[0] * (width - 1)), round((1 - share[1]) * (height - 1))
