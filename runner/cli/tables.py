"""Tables: for people in columns, for programs as CSV."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence

from runner.cli.reading import clean


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], colours: Mapping[str, str] | None = None) -> None:
    """Print rows below their titles; a cell that is a key of ``colours`` is shown so. The last column may be broken."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(clean(title), no_wrap=title != titles[-1])
    for row in rows:
        table.add_row(*(Text(clean(cell), style=(colours or {}).get(cell, "")) for cell in row))
    # A pipe has no width; nothing may be cut off there.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def print_csv(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as CSV, as RFC 4180 has it but for the line ends."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
