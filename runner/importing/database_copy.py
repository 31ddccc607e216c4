"""A private copy of an SQLite database, read by whatever columns it has."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from runner.errors import TransferError

Fields = Mapping[str, object]


class DatabaseCopy:
    """A copy of a database, which goes away with the connection.

    Copying takes the lock for a moment only, so that whoever writes to the database is not kept from it; and indexes
    that old schemas lack can be made here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # An empty name is a file without a name: nothing is left behind, however this process ends.
        # https://www.sqlite.org/inmemorydb.html#temp_db
        self._copy = sqlite3.connect("")
        self._copy.row_factory = sqlite3.Row
        self._copy.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            self._fill()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Drop the copy."""
        self._copy.close()

    def columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table; none where there is no such table."""
        # A view may take for ever.
        known = self._copy.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
        if known is None:
            return frozenset()
        return frozenset(row[1] for row in self._copy.execute(f"PRAGMA table_info({table})"))

    def rows(self, table: str, wanted: Sequence[str], **where: object) -> Iterator[Fields]:
        """Yield the rows with these values, one by one; columns that the table does not have are None.

        Raises:
            TransferError: the database is damaged.
        """
        there = self.columns(table)
        if not there or not set(where) <= there:
            return
        columns = ", ".join(f'"{name}"' if name in there else f'NULL AS "{name}"' for name in wanted)
        condition = " AND ".join(f'"{name}" = ?' for name in where) or "1"
        sql = f"SELECT {columns} FROM {table} WHERE {condition}"  # noqa: S608  our own words; values are bound
        try:
            for row in self._copy.execute(sql, tuple(where.values())):
                yield dict(row)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def row(self, table: str, wanted: Sequence[str], **where: object) -> Fields:
        """Return the row with these values.

        Raises:
            TransferError: there is none, or the database is damaged.
        """
        found = next(self.rows(table, wanted, **where), None)
        if found is None:
            raise self.fault(table, ", ".join(map(str, where.values())), "there is no such row")
        return found

    def count(self, table: str) -> int:
        """Return how many rows a table has; none where there is no such table."""
        if not self.columns(table):
            return 0
        return int(self._copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  as above

    def fault(self, table: str, what: str, problem: str) -> TransferError:
        """Return the error for a row that can't be."""
        return TransferError(
            "A row of the database can't be taken over", context=f"{self._path}: {table}, {what}: {problem}"
        )

    def _fill(self) -> None:
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
        except sqlite3.OperationalError:
            connection.close()
            if self._path.with_name(f"{self._path.name}-wal").exists():
                raise
            # A write-ahead log can't be made in a folder that may not be written to; and there is none to read.
            return sqlite3.connect(f"{uri}&immutable=1", uri=True)
        return connection

    def _has_index(self, table: str, column: str) -> bool:
        for index in self._copy.execute(f"PRAGMA index_list({table})").fetchall():
            first = self._copy.execute(f"PRAGMA index_info('{index[1]}')").fetchone()
            if first is not None and first[2] == column:
                return True
        return False

    def _unreadable(self, error: sqlite3.Error) -> TransferError:
        return TransferError("The database can't be read", context=f"{self._path}: {error}")
