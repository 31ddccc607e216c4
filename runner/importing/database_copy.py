"""Reads a private copy of an SQLite database, whatever columns it has."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from runner.errors import TransferError

Fields = Mapping[str, object]

_FAULTS = (sqlite3.Error, UnicodeError)
"""Python's error when SQLite's message about a damaged file is not UTF-8."""


class DatabaseCopy:
    """A temporary copy of a database, deleted when the connection is closed.

    The source is locked only while it is copied, so writers are not blocked during the import, and missing indexes of
    old schemas can be created in the copy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # An empty name creates an unnamed temporary file, which is removed however this process ends.
        # https://www.sqlite.org/inmemorydb.html#temp_db
        self._copy = sqlite3.connect("")
        self._copy.row_factory = sqlite3.Row
        self._copy.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            self._copy_tables()
        except _FAULTS as error:
            self._copy.close()
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Delete the copy."""
        self._copy.close()

    def columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table; empty if the table does not exist."""
        # Views are excluded: evaluating one may not terminate.
        known = any(self._ask("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))
        return frozenset(row[1] for row in self._ask(f"PRAGMA table_info({table})")) if known else frozenset()

    def rows(self, table: str, wanted: Sequence[str], **where: object) -> Iterator[Fields]:
        """Yield the rows that match these values; columns missing from the table are None.

        Raises:
            TransferError: the database is damaged.
        """
        there = self.columns(table)
        if not there or not set(where) <= there:
            return
        columns = ", ".join(f'"{name}"' if name in there else f'NULL AS "{name}"' for name in wanted)
        condition = " AND ".join(f'"{name}" = ?' for name in where) or "1"
        sql = f"SELECT {columns} FROM {table} WHERE {condition}"  # noqa: S608  our own words; values are bound
        for row in self._ask(sql, *where.values()):
            yield dict(row)

    def row(self, table: str, wanted: Sequence[str], **where: object) -> Fields:
        """Return the row that matches these values.

        Raises:
            TransferError: there is no such row, or the database is damaged.
        """
        found = next(self.rows(table, wanted, **where), None)
        if found is None:
            raise self.fault(table, ", ".join(map(str, where.values())), "there is no such row")
        return found

    def count(self, table: str) -> int:
        """Return the number of rows of a table; 0 if the table does not exist."""
        if not self.columns(table):
            return 0
        return sum(int(row[0]) for row in self._ask(f"SELECT count(*) FROM {table}"))  # noqa: S608  as above

    def fault(self, table: str, what: str, problem: str) -> TransferError:
        """Return the error for an invalid row."""
        return TransferError(
            "A row of the database can't be imported", context=f"{self._path}: {table}, {what}: {problem}"
        )

    def _ask(self, sql: str, *args: object) -> Iterator[sqlite3.Row]:
        try:
            yield from self._copy.execute(sql, args)
        except _FAULTS as error:
            raise self._unreadable(error) from error

    def _copy_tables(self) -> None:
        source = self._open()
        try:
            source.backup(self._copy)
        finally:
            source.close()
        self._copy.execute("PRAGMA trusted_schema = OFF")
        self._copy.execute("PRAGMA synchronous = OFF")
        for table in ("metrics", "params", "tags"):
            if "run_uuid" in self.columns(table) and not self._has_index(table, "run_uuid"):
                self._copy.execute(f"CREATE INDEX proj_{table} ON {table} (run_uuid)")

    def _open(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._path))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=20)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except BaseException as error:
            connection.close()
            if not isinstance(error, sqlite3.OperationalError):
                raise
            if self._path.with_name(f"{self._path.name}-wal").exists():
                raise
            # SQLite can't create a write-ahead log in a read-only folder, and there is none to read.
            return sqlite3.connect(f"{uri}&immutable=1", uri=True)
        return connection

    def _has_index(self, table: str, column: str) -> bool:
        for index in self._copy.execute(f"PRAGMA index_list({table})").fetchall():
            first = self._copy.execute(f"PRAGMA index_info('{index[1]}')").fetchone()
            if first is not None and first[2] == column:
                return True
        return False

    def _unreadable(self, error: Exception) -> TransferError:
        return TransferError("The database can't be read", context=f"{self._path}: {error}")
