"""One SQLite file, opened fast, used from many threads and many processes."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runner.errors import StoreError
from runner.store.filesystems import is_on_network
from runner.store.migrations import APPLICATION_ID, MIGRATIONS, Migration, applied, apply

Row = sqlite3.Row

BUSY_SECONDS = 60.0
"""How long a writer waits for another process's transaction; ours take milliseconds."""

_EXPLANATIONS = {
    "disk is full": ("The disk is full", "Free some space; what was recorded so far is safe."),
    "database is locked": ("Another process has been writing to the store for too long", "Look for a stuck process."),
    "readonly database": ("The store can't be written to", "Check the permissions of the file and its folder."),
    "unable to open": ("The store can't be opened", "Check the permissions of the file and its folder."),
    "disk I/O error": ("The disk reported an error", "Check the disk, then run the command again."),
    "malformed": ("The store is damaged", "Restore a backup: the files beside it whose names end in '.backup'."),
    "not a database": ("This file is not a store of proj", "Point PROJ_HOME at another folder."),
}


class Gathered:
    """Changes that wait for their commit, on a connection of their own; ``fault`` is what they were lost by."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.fault: BaseException | None = None


class Database:
    """The store's database.

    Threads: each query or transaction borrows a connection from a pool and gives it back, so any thread may use the
    object, and readers never wait for a writer. A transaction belongs to the thread that began it: within it, queries
    of that thread see its changes. Writers of one process queue at a lock instead of polling the file.

    What happens inside `gathering` waits for `commit_gathered`: a server commits changes of several clients at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.RLock()
        self._local = threading.local()
        self._gathered: Gathered | None = None
        self._lost: BaseException | None = None
        self._closed = False

    @classmethod
    def open(cls, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> "Database":
        """Open a store, creating or upgrading it as needed.

        Raises:
            StoreError: the file is no store, was written by a newer proj, or can't be opened.
        """
        database = cls(path)
        with database._explained():
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = database._connect()
            try:
                if connection.execute("PRAGMA user_version").fetchone()[0] != len(migrations):
                    _upgrade(connection, path, migrations)
            except BaseException:
                connection.close()
                raise
        database._idle.append(connection)
        return database

    def close(self) -> None:
        """Close every connection; one that another thread is using now, when that is done."""
        self._closed = True
        self.commit_gathered()
        while self._idle:
            self._idle.pop().close()

    def query(self, sql: str, *args: object) -> list[Row]:
        """Return all rows of a query."""
        with self._explained(), self._borrowed() as connection:
            return connection.execute(sql, args).fetchall()

    def execute(self, sql: str, *args: object) -> int:
        """Change something, in a transaction of its own unless one is open; return how many rows changed."""
        with self.transaction() as connection, self._explained():
            return connection.execute(sql, args).rowcount

    def insert(self, sql: str, *args: object) -> int:
        """Insert one row like `execute`, and return its number."""
        with self.transaction() as connection, self._explained():
            return connection.execute(sql, args).lastrowid or 0

    def execute_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Change something for each row of arguments, in one transaction; return how many rows changed."""
        with self.transaction() as connection, self._explained():
            return connection.executemany(sql, rows).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Make what happens inside take effect as a whole or not at all; one inside another joins it."""
        outer: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if outer is not None:
            yield outer
            return
        if getattr(self._local, "gathers", False):
            with self._part() as connection:
                yield connection
            return
        with self._writing:
            # Another connection of this thread could never begin while these wait.
            self._commit_early()
            with self._whole() as connection:
                yield connection

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Let the transactions inside, each whole or nothing, take effect with `commit_gathered` of this thread."""
        self._local.gathers = True
        try:
            yield
        finally:
            self._local.gathers = False

    @property
    def has_gathered(self) -> bool:
        """Whether changes wait for `commit_gathered`."""
        return self._gathered is not None or self._lost is not None

    def commit_gathered(self) -> None:
        """Let the gathered changes take effect; when this fails, none of them has.

        Raises:
            StoreError: the disk is full, or fails.
        """
        gathered, self._gathered = self._gathered, None
        lost, self._lost = self._lost, None
        if gathered is not None:
            self._commit(gathered)
        if lost is not None:
            raise lost

    def _commit_early(self) -> None:
        """Commit what is gathered for the sake of somebody else, whom it does not concern when that fails."""
        try:
            self.commit_gathered()
        except StoreError as error:
            self._lost = error

    def _commit(self, gathered: "Gathered") -> None:
        connection = gathered.connection
        try:
            if gathered.fault is not None:
                raise gathered.fault
            with self._explained():
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.append(connection)
            self._writing.release()

    @contextmanager
    def _part(self) -> Iterator[sqlite3.Connection]:
        """Make one of the transactions that are gathered."""
        if self._gathered is None:
            self._gathered = self._begin()
        connection = self._gathered.connection
        with self._explained():
            connection.execute("SAVEPOINT part")
        self._local.connection = connection
        try:
            yield connection
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO part")
            elif self._gathered.fault is None:
                # A full disk makes SQLite roll back all of them.
                self._gathered.fault = error
            raise
        finally:
            self._local.connection = None
            if connection.in_transaction:
                connection.execute("RELEASE part")

    def _begin(self) -> "Gathered":
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
        return Gathered(connection)

    @contextmanager
    def _whole(self) -> Iterator[sqlite3.Connection]:
        """Make a transaction that is committed at its end."""
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
        if held is None and self._gathered is not None and getattr(self._local, "gathers", False):
            held = self._gathered.connection
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
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.row_factory = Row
            connection.execute("PRAGMA foreign_keys = ON")
            # With a write-ahead log a commit outlives its process; the last ones may be lost when the machine dies.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn faults of the file and the disk into errors for the user; others are bugs."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            for words, (message, hint) in _EXPLANATIONS.items():
                if words in str(error):
                    raise StoreError(message, context=f"{self.path}: {error}", hint=hint) from error
            raise
        except OSError as error:
            raise StoreError("The store can't be opened", context=str(error), hint="Set PROJ_HOME.") from error


def _upgrade(connection: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...]) -> None:
    """Bring a store to the schema of this proj in one transaction, after a backup where there is something to lose."""
    _refuse(connection, path, migrations)
    _set_journal(connection, path)
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = applied(connection)
        if done and len(done) < len(migrations):
            _back_up(path, done)
        apply(connection, migrations)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    wanted = "delete" if is_on_network(path.parent) else "wal"
    deadline = time.monotonic() + BUSY_SECONDS
    while not _can_set_journal(connection, wanted, last=time.monotonic() > deadline):
        time.sleep(0.01)


def _can_set_journal(connection: sqlite3.Connection, wanted: str, *, last: bool) -> bool:
    """Set the journal; False while another process makes the same change, for which SQLite does not wait by itself."""
    try:
        connection.execute(f"PRAGMA journal_mode = {wanted}")
    except sqlite3.OperationalError as error:
        if last or "locked" not in str(error):
            raise
        return False
    return True


def _refuse(connection: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...]) -> None:
    known = {migration.name for migration in migrations}
    unknown = [name for name in applied(connection) if name not in known]
    if unknown:
        raise StoreError(
            "The store was written by a newer proj",
            context=f"{path} has '{unknown[-1]}', which this version does not know",
            hint="Upgrade proj, or point PROJ_HOME at another folder.",
        )
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise StoreError(
            "This file is not a store of proj", context=str(path), hint="Point PROJ_HOME at another folder."
        )


def _back_up(path: Path, done: tuple[str, ...]) -> None:
    """Copy the store as it is; the caller's transaction keeps other writers out meanwhile."""
    target = path.with_name(f"{path.name}.{len(done):04d}.backup")
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
    partial.replace(target)
