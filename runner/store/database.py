"""Provides access to the SQLite file from many threads and processes."""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from runner.base.files import remove_tree
from runner.errors import DamagedStoreError, StoreError
from runner.store.disk import explain_error
from runner.store.migrations import MIGRATIONS, Migration, apply
from runner.store.query_limits import TimeLimit, limited
from runner.store.read_only import Way, connect, copy_to_temporary_folder, memory_way, other_ways, usual_way
from runner.store.upgrading import BUSY_SECONDS, Schema, check_schema, copy_upgraded, make_private, upgrade

Row = sqlite3.Row


class BatchedWrite:
    """Changes that wait for a group commit, on their own connection; ``fault`` is the error that discarded them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.fault: BaseException | None = None


class Database:
    """The store's database.

    Threads: each query or transaction borrows a connection from a pool and gives it back, so any thread may use the
    object, and readers never wait for a writer. A transaction belongs to the thread that began it: within it, queries
    of that thread see its changes. Writers of one process queue at a lock instead of polling the file.

    Transactions inside `batching` wait for `commit_batch`: a server commits changes of several clients at once.
    """

    def __init__(self, path: Path, way: Way | None = None) -> None:
        self.path = path
        self._way = way or Way(uri=path.absolute().as_uri(), settings=_WRITER, patience=BUSY_SECONDS)
        self._views: tuple[str, ...] = ()
        self._copy: Path | None = None
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.RLock()
        self._local = threading.local()
        self.time_limit = TimeLimit()
        self._batch: BatchedWrite | None = None
        self._lost: BaseException | None = None
        self._closed = False

    @classmethod
    def open(cls, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> "Database":
        """Open a store, creating or upgrading it as needed.

        Raises:
            StoreError: the file is not a store, was written by a newer proj, or can't be opened.
        """
        database = cls(path)
        with database._explained():
            if not path.exists():
                make_private(path)
            connection = database._connect()
            try:
                schema = check_schema(connection, path, migrations, writing=True)
            except BaseException:
                connection.close()
                raise
            if schema is Schema.OLDER:
                connection.close()  # while it is open, no other connection can lock the store exclusively
                upgrade(path, migrations)
                connection = database._connect()
        database._idle.append(connection)
        return database

    @classmethod
    def check(cls, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        """Refuse a store that this version must not write; a missing store is accepted.

        Raises:
            StoreError: a newer proj made the store unwritable for this version, or it can't be opened.
        """
        if path.exists():
            database = cls(path)
            with database._explained(), closing(database._connect()) as connection:
                check_schema(connection, path, migrations, writing=True)

    @classmethod
    def open_to_read(cls, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> "Database":
        """Open a store read-only: nothing is written, and no disk space, write permission or lock is needed.

        A missing store is replaced by an empty one in memory. An older one is upgraded if possible, else an upgraded
        copy in memory is used.

        Raises:
            StoreError: the file is not a store, needs a newer proj, or can't be read.
        """
        if not os.path.lexists(path):
            return cls._in_memory(path, migrations, None)
        return cls._readable(path).in_schema(migrations)

    def in_schema(self, migrations: tuple[Migration, ...]) -> "Database":
        """Return this read-only store, or an upgraded replacement if its schema is older.

        Raises:
            StoreError: the file is not a store, needs a newer proj, or can't be read.
        """
        try:
            with self._explained(), self._borrowed() as connection:
                if check_schema(connection, self.path, migrations, writing=False) is not Schema.OLDER:
                    return self
        except BaseException:
            self.close()
            raise
        found = self._readable(self.path) if self._upgrade(migrations) else None
        if found is None:
            with self._borrowed() as connection:
                found = self._in_memory(self.path, migrations, connection)
        self.close()
        return found

    def _upgrade(self, migrations: tuple[Migration, ...]) -> bool:
        """Upgrade the file of this read-only store if possible; return whether it was upgraded."""
        if self._way != usual_way(self.path):
            # The disk is full or read-only. A lock that this way of reading holds would also block the upgrade.
            return False
        try:
            Database.open(self.path, migrations).close()
        except StoreError:
            return False
        return True

    @classmethod
    def _readable(cls, path: Path) -> "Database":
        """Open a store in the first way that can read it.

        Raises:
            StoreError: none works; the error is that of the usual way.
        """
        first: StoreError | None = None
        for way in (usual_way(path), *other_ways(path)):
            database = cls(path, way)
            try:
                with database._explained():
                    database._idle.append(database._connect())
            except DamagedStoreError:
                raise
            except StoreError as error:
                first = first or error
                continue
            return database
        folder = copy_to_temporary_folder(path)
        if folder is None:
            raise first or StoreError("The store can't be opened", context=str(path))
        database = cls(path, usual_way(folder / path.name))
        database._copy = folder
        try:
            with database._explained():
                database._idle.append(database._connect())
        except StoreError:
            database.close()
            raise first or StoreError("The store can't be opened", context=str(path)) from None
        return database

    @classmethod
    def _in_memory(cls, path: Path, migrations: tuple[Migration, ...], source: sqlite3.Connection | None) -> "Database":
        """Return a store in memory with the current schema: empty, or a copy of another store.

        Raises:
            StoreError: the other store is too large.
        """
        database = cls(path, memory_way())
        with database._explained(), database._borrowed() as connection:
            if source is not None:
                copy_upgraded(source, connection, path, migrations)
            else:
                apply(connection, migrations)
        return database

    def close(self) -> None:
        """Close every connection; connections in use are closed when they are returned."""
        self._closed = True
        self.commit_batch()
        while self._idle:
            self._idle.pop().close()
        if self._copy is not None:
            remove_tree(self._copy)

    def view(self, statements: Sequence[str]) -> None:
        """Shadow tables with temporary views on every connection; nothing is written to the file."""
        with self._explained():
            for connection in self._idle:
                _add_views(connection, statements)
        self._views = (*self._views, *statements)

    def query(self, sql: str, *args: object) -> list[Row]:
        """Return all rows of a query."""
        with self._explained(), self._borrowed() as connection, limited(connection, self.time_limit.deadline):
            return connection.execute(sql, args).fetchall()

    def execute(self, sql: str, *args: object) -> int:
        """Execute a statement, in its own transaction unless one is open; return the number of changed rows."""
        with self.transaction() as connection, self._explained():
            return connection.execute(sql, args).rowcount

    def insert(self, sql: str, *args: object) -> int:
        """Insert one row like `execute`, and return its row number."""
        with self.transaction() as connection, self._explained():
            return connection.execute(sql, args).lastrowid or 0

    def execute_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Execute a statement for each row of arguments, in one transaction; return the number of changed rows."""
        with self.transaction() as connection, self._explained():
            return connection.executemany(sql, rows).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Apply the changes of a block as a whole or not at all; a nested transaction joins the outer one."""
        outer: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if outer is not None:
            yield outer
            return
        if getattr(self._local, "is_batching", False):
            with self._part() as connection:
                yield connection
            return
        with self._writing:
            # Another connection of this thread could never begin while these wait.
            self._commit_early()
            with self._whole() as connection:
                yield connection

    @contextmanager
    def batching(self) -> Iterator[None]:
        """Defer the commit of the transactions in a block to `commit_batch` of this thread; each stays atomic."""
        self._local.is_batching = True
        try:
            yield
        finally:
            self._local.is_batching = False

    @property
    def has_batch(self) -> bool:
        """Whether changes wait for `commit_batch`."""
        return self._batch is not None or self._lost is not None

    def commit_batch(self) -> None:
        """Commit the batched changes; if this fails, none of them takes effect.

        Raises:
            StoreError: the disk is full or fails.
        """
        batch, self._batch = self._batch, None
        lost, self._lost = self._lost, None
        if batch is not None:
            self._commit(batch)
        if lost is not None:
            raise lost

    def _commit_early(self) -> None:
        """Commit batched changes so that another transaction can begin; errors are kept for their own caller."""
        try:
            self.commit_batch()
        except StoreError as error:
            self._lost = error

    def _commit(self, batch: "BatchedWrite") -> None:
        connection = batch.connection
        try:
            if batch.fault is not None:
                raise batch.fault
            with self._explained():
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.append(connection)
            self._writing.release()

    @contextmanager
    def _part(self) -> Iterator[sqlite3.Connection]:
        """Run one of the transactions of the batch."""
        if self._batch is None:
            self._batch = self._begin()
        connection = self._batch.connection
        with self._explained():
            connection.execute("SAVEPOINT part")
        self._local.connection = connection
        try:
            yield connection
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO part")
            elif self._batch.fault is None:
                # A full disk makes SQLite roll back all of them.
                self._batch.fault = error
            raise
        finally:
            self._local.connection = None
            if connection.in_transaction:
                connection.execute("RELEASE part")

    def _begin(self) -> "BatchedWrite":
        self._writing.acquire()
        try:
            connection = self._idle.pop() if self._idle else self._connect()
            try:
                with self._explained():
                    connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._idle.append(connection)
                raise
        except BaseException:
            self._writing.release()
            raise
        return BatchedWrite(connection)

    @contextmanager
    def _whole(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction that is committed at its end."""
        with self._borrowed() as connection:
            with self._explained():
                connection.execute("BEGIN IMMEDIATE")
            self._local.connection = connection
            try:
                yield connection
                with self._explained():
                    connection.execute("COMMIT")
            finally:
                self._local.connection = None
                # A full disk makes SQLite roll back by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        held: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if held is None and self._batch is not None and getattr(self._local, "is_batching", False):
            held = self._batch.connection
        if held is not None:
            yield held
            return
        connection = self._idle.pop() if self._idle else self._connect()
        try:
            yield connection
        finally:
            self._idle.append(connection)
            if self._closed:
                self.close()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._way)
        try:
            connection.row_factory = Row
            _add_views(connection, self._views)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Convert file and disk errors into errors for the user; other errors are bugs."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            explained = explain_error(error, self.path)
            if explained is None:
                raise
            raise explained from error
        except OSError as error:
            raise StoreError("The store can't be opened", context=str(error), hint="Set PROJ_HOME.") from error


_WRITER = (
    "PRAGMA foreign_keys = ON",
    # With a write-ahead log a commit survives its process; a power loss may lose the latest commits.
    "PRAGMA synchronous = NORMAL",
)


def _add_views(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    if not statements:
        return
    connection.execute("PRAGMA query_only = OFF")
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA query_only = ON")
