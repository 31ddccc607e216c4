"""Opens stores that can't be written: on a full disk, on a read-only file system, of another user."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct, structs

_SHORT = 1.0
"""Seconds to wait for a lock if the store can't be opened as usual."""

_SPARE = Path("/dev/shm")  # noqa: S108  # only inside a folder of its own, with a random name
"""Folder for a copy if the temporary folder is full."""


class Way(Struct, frozen=True, kw_only=True):
    """The options of a connection: SQLite's URI, initial pragmas, and the lock timeout in seconds."""

    uri: str
    settings: tuple[str, ...] = ("PRAGMA query_only = ON",)
    patience: float = 60.0


def usual_way(path: Path) -> Way:
    """Return the way that shares the store with writers; SQLite needs disk space beside the store for it."""
    return Way(uri=_uri(path, "mode=rw"))


def other_ways(path: Path) -> Iterator[Way]:
    """Yield the ways to read a store that the usual way can't open, the safest first.

    https://www.sqlite.org/wal.html ("Read-Only Databases") and https://www.sqlite.org/pragma.html#pragma_locking_mode:
    a connection with an exclusive lock keeps the index of the write-ahead log in memory and needs no file for it.
    ``immutable`` ignores the log, so it is correct only if there is none.
    """
    alone = ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA temp_store = MEMORY", "PRAGMA query_only = ON")
    log = path.with_name(f"{path.name}-wal")
    if os.access(path, os.W_OK):
        yield Way(uri=_uri(path, "mode=rw"), settings=alone, patience=_SHORT)
    if _is_empty(log):
        journal = path.with_name(f"{path.name}-journal")
        if _is_empty(journal):
            yield Way(uri=_uri(path, "immutable=1"), settings=alone[1:], patience=_SHORT)
    elif not os.access(log, os.W_OK):
        # Without locks; safe because neither the store nor its log can be written or removed.
        yield Way(uri=_uri(path, "mode=ro&vfs=unix-none"), settings=alone, patience=_SHORT)


def memory_way() -> Way:
    """Return the way to a named in-memory database, shared by all connections of this process."""
    return Way(uri=f"file:proj-{os.urandom(8).hex()}?mode=memory&cache=shared", settings=())


def copy_to_temporary_folder(path: Path) -> Path | None:
    """Copy a store with its log into a temporary folder, which the caller removes; None without enough disk space.

    Files are copied directly, because SQLite can't open the store. If the log is written meanwhile, the copy ends at
    the last complete transaction.
    """
    import shutil
    import tempfile

    for parent in (None, _SPARE):
        if parent is not None and not parent.is_dir():
            continue
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="proj-store-", dir=parent))
            for suffix in ("", "-wal", "-journal"):
                source = path.with_name(path.name + suffix)
                with suppress(FileNotFoundError):
                    shutil.copyfile(source, folder / source.name)
        except OSError:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        return folder
    return None


def connect(way: Way) -> sqlite3.Connection:
    """Open a connection in a way, and check that the store can be read.

    Raises:
        sqlite3.Error: the store can't be read.
    """
    connection = sqlite3.connect(
        way.uri, uri=True, timeout=way.patience, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        for setting in way.settings:
            connection.execute(setting)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def query_once(path: Path, sql: str, args: tuple[object, ...], patience: float) -> list[tuple[object, ...]]:
    """Return the rows of one query without waiting; empty if the store can't be read at once."""
    if not path.is_file():
        return []
    usual = structs.replace(usual_way(path), patience=patience)
    return next(filter(None, (_rows(way, sql, args) for way in (usual, *other_ways(path)))), [])


def _rows(way: Way, sql: str, args: tuple[object, ...]) -> list[tuple[object, ...]]:
    try:
        with closing(connect(way)) as connection:
            return connection.execute(sql, args).fetchall()
    except sqlite3.Error:
        return []


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return True


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(os.fspath(path.absolute()))}?{options}"
