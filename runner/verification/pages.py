"""Reads the schema pages of an SQLite file. https://www.sqlite.org/fileformat2.html."""

import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.store.database import Database

_PAGE = 4096
"""Page size in bytes: SQLite's default, used by every store of proj."""
_HEAD = 100
"""Size of the file header at the start of the first page, in bytes."""
_INTERIOR = 5
"""The type of an interior page, which only refers to other pages."""


def borrow_schema(path: Path, target: Path) -> None:
    """Write a copy of a store with its schema pages replaced by those of a new store.

    Raises:
        OSError: a file can't be read or written.
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
        file.write(b"\1\1")  # rollback journal mode: the write-ahead log of the store does not belong to the copy
        file.seek(28)
        file.write(count.to_bytes(4, "big") + bytes(8))  # database size in pages; the free list is empty
        file.truncate(count * _PAGE)


def _schema_pages(pages: bytes) -> list[int]:
    """Return the numbers of the pages that hold the schema: the first page and the pages that it refers to."""
    head = pages[_HEAD:]
    if head[0] != _INTERIOR:
        return [1]
    cells = int.from_bytes(head[3:5], "big")
    offsets = (int.from_bytes(head[12 + 2 * index : 14 + 2 * index], "big") for index in range(cells))
    return [
        1,
        *(int.from_bytes(pages[offset : offset + 4], "big") for offset in offsets),
        int.from_bytes(head[8:12], "big"),
    ]
