"""Copies the readable rows of a damaged database into a new one and keeps the damaged file."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from runner.base.plurals import counted
from runner.errors import FullDiskError, StoreError
from runner.store.database import Database
from runner.store.disk import explain_error, free_bytes
from runner.store.migrations import MIGRATIONS
from runner.store.row_helpers import RUN_ID
from runner.store.upgrading import make_private
from runner.verification.pages import borrow_schema
from runner.verification.references import complete_references

_MOST_GAPS = 10_000
"""Number of unreadable ranges in one table after which the rest of the table is skipped."""
_BATCH = 500
_TIMES = 4
"""Required free space as a multiple of the store's size: a repair writes the rows twice and one copy of the store."""
_MARGIN = 4 << 20
_LARGEST = 1 << 62
_BOOKKEEPING = frozenset(("migrations", "compatibility"))


def is_alone(path: Path) -> bool:
    """Return whether no other program has a store open; with a damaged file header this is unknown and returns True."""
    try:
        with closing(sqlite3.connect(path, timeout=2, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" not in str(error)
    except sqlite3.DatabaseError:
        return True
    return True


def salvage(path: Path) -> str:
    """Replace a damaged store by a new one with all readable rows, and return a description of the result.

    If no row can be read, the newest readable backup replaces the store.
    """
    _require_space(path)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    fresh = path.with_name(f"{path.name}.salvaged")
    try:
        return _replace(path, fresh, aside)
    except sqlite3.Error as error:
        raise explain_error(error, fresh) or StoreError("The store can't be repaired", context=str(error)) from error
    finally:
        for name in (fresh.name, f"{fresh.name}.borrowed"):
            for suffix in ("", "-wal", "-shm", "-journal"):
                fresh.with_name(name + suffix).unlink(missing_ok=True)


def _require_space(path: Path) -> None:
    """Refuse a repair without enough disk space, because rows that can't be written would be lost."""
    needed = _TIMES * path.stat().st_size + _MARGIN
    if free_bytes(path.parent) < needed:
        message = "The disk is full: a repair needs space for a copy of the store"
        raise FullDiskError(message, context=str(path), hint=f"Free {needed >> 20} MB, then run the command again.")


def _replace(path: Path, fresh: Path, aside: Path) -> str:
    used, count = path, _copy_rows(path, fresh)
    other = fresh.with_name(f"{fresh.name}.borrowed")
    borrowed = _copy_with_borrowed_schema(path, other)
    if borrowed > count:
        other.replace(fresh)
        count = borrowed
    for used in sorted(path.parent.glob(f"{path.name}.*.backup"), reverse=True) if not count else ():
        count = _copy_rows(used, fresh)
        if count:
            break
    else:
        used = path
    for suffix in ("-wal", "-shm"):  # SQLite would apply a remaining log to the new store
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    aside.hardlink_to(path)
    fresh.replace(path)
    result = (
        f"saved {counted(count, 'row')}"
        if used == path
        else f"took {counted(count, 'row')} from the backup {used.name}"
    )
    return f"{result}; the damaged file is kept as {aside.name}"


def _copy_rows(source: Path, target: Path) -> int:
    """Create a new store from the readable rows of another one; return the number of rows."""
    target.unlink(missing_ok=True)
    make_private(target)
    Database.open(target).close()
    with closing(sqlite3.connect(target, isolation_level=None)) as new:
        new.execute("PRAGMA journal_mode = DELETE")
        tables = [row[0] for row in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        new.execute("BEGIN")
        new.execute("DELETE FROM experiments")
        new.execute("DROP TRIGGER IF EXISTS points_that_come_late")
        kept = [name for name in tables if not name.startswith("sqlite_") and name not in _BOOKKEEPING]
        count = sum(_copy_table(source, new, name) for name in kept)
        for step in MIGRATIONS:
            for statement in step.statements:
                if statement.startswith("CREATE TRIGGER points_that_come_late"):
                    new.execute(statement)
        new.execute("INSERT OR IGNORE INTO experiments (id, name, created_at, updated_at) VALUES (0, 'Default', 0, 0)")
        new.execute("COMMIT")
    with closing(Database.open(target)) as database:
        complete_references(database)
    return count


def _copy_with_borrowed_schema(path: Path, target: Path) -> int:
    """Copy the rows of a store with a lost schema, using the schema pages of a new store; return the number of rows.

    Stores that were created with this schema and never upgraded have their tables on the same pages.
    """
    borrowed = path.with_name(f"{path.name}.borrowed")
    try:
        borrow_schema(path, borrowed)
        with closing(_connect_damaged(borrowed)) as connection:
            found = connection.execute("SELECT run_id FROM runs LIMIT 100").fetchall()
        if not found or not all(isinstance(name, str) and RUN_ID.fullmatch(name) for (name,) in found):
            return 0
        return _copy_rows(borrowed, target)
    except (sqlite3.Error, OSError):
        return 0
    finally:
        borrowed.unlink(missing_ok=True)


def _connect_damaged(path: Path) -> sqlite3.Connection:
    """Open a store in a mode that tolerates a partly damaged schema or a truncated file."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA writable_schema = ON")
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _copy_table(source: Path, new: sqlite3.Connection, table: str) -> int:
    columns = [(row[1], row[2], row[5]) for row in new.execute(f"PRAGMA table_info({table})")]
    names = [name for name, _, _ in columns]
    keys = [name for name, _, place in sorted(columns, key=lambda column: column[2]) if place]
    numbered = next((kind == "INTEGER" for name, kind, _ in columns if keys and name == keys[0]), False)
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    count = 0
    for rows in _readable(source, table, names, keys, is_numbered=numbered):
        for row in rows:
            # A row that violates a constraint is damaged; a full disk is not caused by the row.
            with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.DataError):
                count += new.execute(insert, row).rowcount
    return count


def _readable(
    source: Path, table: str, names: Sequence[str], keys: Sequence[str], *, is_numbered: bool
) -> Iterator[list[tuple[object, ...]]]:
    """Yield the rows of a table in batches; skips unreadable ranges of integer keys, else reads from both ends."""
    columns, order = ", ".join(names), ", ".join(keys) or "rowid"
    backwards = ", ".join(f"{key} DESC" for key in keys) or "rowid DESC"
    with closing(_connect_damaged(source)) as connection:
        if is_numbered:
            yield from _beyond_gaps(connection, f"SELECT {columns} FROM {table}", keys[0], order, names.index(keys[0]))
        for way in (order, backwards):
            yield from _until_fault(connection, f"SELECT {columns} FROM {table} ORDER BY {way}", ())


def _beyond_gaps(
    connection: sqlite3.Connection, select: str, key: str, order: str, place: int
) -> Iterator[list[tuple[object, ...]]]:
    start, gap = -_LARGEST, 1
    for _ in range(_MOST_GAPS):
        fault: list[bool] = []
        for rows in _until_fault(connection, f"{select} WHERE {key} >= ? ORDER BY {order}", (start,), fault):
            last = rows[-1][place]
            start, gap = max(start, last if isinstance(last, int) else start), 1
            yield rows
        if not fault or start + gap > _LARGEST:
            return
        start, gap = (0 if start < 0 else start + gap), gap * 2


def _until_fault(
    connection: sqlite3.Connection, sql: str, args: tuple[object, ...], fault: list[bool] | None = None
) -> Iterator[list[tuple[object, ...]]]:
    """Yield the rows of a query in batches up to its end or its first error, which is appended to ``fault``."""
    rows: list[tuple[object, ...]] = []
    try:
        for row in connection.execute(sql, args):
            rows.append(row)
            if len(rows) == _BATCH:
                yield rows
                rows = []
    except sqlite3.Error:
        if fault is not None:
            fault.append(True)
    if rows:
        yield rows
