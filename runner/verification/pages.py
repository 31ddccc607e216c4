"""The pages of a database file that hold its schema. https://www.sqlite.org/fileformat2.html."""

import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.store.database import Database

_PAGE = 4096
"""Bytes of a page, which is SQLite's default and that of every store of proj."""
_HEAD = 100
"""Bytes at the start of the first page that are about the whole file."""
_INTERIOR = 5
"""The type of a page that only leads to others."""


def borrow_schema(path: Path, target: Path) -> None:
    """Write a copy of a store in which the pages of the schema are those of a new store.

    Raises:
        OSError: it can't be read or written.
    """
    with TemporaryDirectory(prefix="proj-schema-") as folder:
        fresh = Path(folder) / "proj.db"
        with closing(Database.open(fresh)) as database:
            database.query("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = fresh.read_bytes()
    shutil.copyfile(path, target)
    with target.open("r+b") as file:
        count = file.seek(0, 2) // _PAGE
        for number in _schema_pages(pages):
            file.seek((number - 1) * _PAGE)
            file.write(pages[(number - 1) * _PAGE : number * _PAGE])
        file.seek(18)
        file.write(b"\1\1")  # a rollback journal: the log of the store is not that of the copy
        file.seek(28)
        file.write(count.to_bytes(4, "big") + bytes(8))  # the size in pages; no page is free
        file.truncate(count * _PAGE)


def _schema_pages(pages: bytes) -> list[int]:
    """Return the numbers of the pages that hold the schema: the first, and those that it leads to."""
    head = pages[_HEAD:]
    if head[0] != _INTERIOR:
        return [1]
    cells = int.from_bytes(head[3:5], "big")
    places = (int.from_bytes(head[12 + 2 * index : 14 + 2 * index], "big") for index in range(cells))
    return [
        1,
        *(int.from_bytes(pages[place : place + 4], "big") for place in places),
        int.from_bytes(head[8:12], "big"),
    ]
