"""Checks the schema version of a store and upgrades older stores.

The number of a schema is the number of its steps (``PRAGMA user_version``); their names are in the table
``migrations``. The table ``compatibility`` has the number of steps that a program must know to read, and to write. A
program that knows fewer does not use the store.
"""

import os
import sqlite3
import time
from contextlib import closing
from enum import Enum
from pathlib import Path

import msgspec

from runner.base.files import replacing
from runner.errors import StoreError
from runner.store.disk import is_on_network
from runner.store.entities import ProcessIdentity
from runner.store.migrations import APPLICATION_ID, Migration, applied, apply
from runner.store.process_identity import is_gone

BUSY_SECONDS = 60.0
"""Seconds a writer waits for another process's transaction; transactions take milliseconds."""

_ALONE_SECONDS = 3.0
"""Seconds an exclusive upgrade waits for other programs to end."""

_MOST_COPIED = 512 << 20
"""Maximum size in bytes of a store that is copied into memory."""


class Schema(Enum):
    """The relation of a store's schema to this program; a newer one may allow limited use."""

    SAME = "same"
    OLDER = "older"
    NEWER = "newer"


def check_schema(
    connection: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...], *, writing: bool
) -> Schema:
    """Return the relation of a store's schema to a program that knows these steps; nothing is changed.

    Raises:
        StoreError: the file is not a store of proj, or a newer program's store that does not allow this use.
    """
    number, application = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )
    if application != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise StoreError(
            "This file is not a store of proj", context=str(path), hint="Point PROJ_HOME at another folder."
        )
    if number == len(migrations):
        return Schema.SAME
    known = {migration.name for migration in migrations}
    unknown = [name for name in applied(connection) if name not in known]
    if not unknown:
        return Schema.OLDER
    least = _least(connection, writing=writing)
    if len(migrations) < least:
        what = "write to" if writing else "read"
        raise StoreError(
            "The store was written by a newer proj",
            context=f"{path} has '{unknown[-1]}', which this version does not know;"
            f" to {what} it, a proj must know {least} steps of the schema, and this one knows {len(migrations)}",
            hint="Upgrade proj, or point PROJ_HOME at another folder. Nothing was changed.",
        )
    return Schema.NEWER


def _least(connection: sqlite3.Connection, *, writing: bool) -> int:
    """Return how many steps a program must know; all of them if the store does not define it."""
    column = "writer" if writing else "reader"
    try:
        found = connection.execute(f"SELECT max({column}) FROM compatibility").fetchone()[0]
    except sqlite3.OperationalError:
        found = None
    return int(connection.execute("PRAGMA user_version").fetchone()[0] if found is None else found)


def upgrade(path: Path, migrations: tuple[Migration, ...]) -> None:
    """Upgrade a store to the current schema in one transaction, after a backup if it has data.

    A step that excludes older programs is applied only while no other program has the store open.

    Raises:
        StoreError: another program has the store open.
        sqlite3.Error: the store can't be written.
    """
    with closing(_connect(path, BUSY_SECONDS)) as connection:
        done = applied(connection)
        pending = [step for step in migrations if step.name not in done]
        if not done or not any(step.breaks_readers or step.breaks_writers for step in pending):
            _set_journal(connection, path)
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection, path, migrations)
            return
    with closing(_connect(path, _ALONE_SECONDS)) as connection:
        _lock_exclusively(connection, path)
        _migrate(connection, path, migrations, is_alone=True)


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=patience, isolation_level=None)


def _lock_exclusively(connection: sqlite3.Connection, path: Path) -> None:
    """Lock a store exclusively until the connection is closed.

    With a write-ahead log every open connection holds a lock. With a rollback journal only running runs are known.
    """
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")  # the lock stays
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise _in_use(path, "another program has it open") from error
    sql = "SELECT run_id, owner FROM runs WHERE owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED')"
    for run_id, document in connection.execute(sql):
        owner = msgspec.json.decode(document, type=ProcessIdentity)
        if not is_gone(owner):
            raise _in_use(path, f"the run {run_id[:8]} is running (process {owner.pid} on {owner.host})")


def _in_use(path: Path, why: str) -> StoreError:
    return StoreError(
        "The store must be upgraded, but an older proj is using it",
        context=f"{path}: {why}",
        hint="Wait until its runs are over and stop its servers, then run the command again. Nothing was changed.",
    )


def _migrate(
    connection: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...], *, is_alone: bool = False
) -> None:
    """Apply the missing steps and commit; without an open transaction, an exclusive one is begun."""
    try:
        done = applied(connection)
        if done and len(done) < len(migrations):
            _back_up(path, done, connection if is_alone else None)
        if not connection.in_transaction:
            connection.execute("BEGIN EXCLUSIVE")
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
    """Set the journal mode; return False while another process changes it, for which SQLite does not wait."""
    try:
        connection.execute(f"PRAGMA journal_mode = {wanted}")
    except sqlite3.OperationalError as error:
        if last or "locked" not in str(error):
            raise
        return False
    return True


def _back_up(path: Path, done: tuple[str, ...], connection: sqlite3.Connection | None) -> None:
    """Back up the store, through an exclusive connection or a new one."""
    target = path.with_name(f"{path.name}.{len(done):04d}.backup")
    save_copy(path, target, connection)


def save_copy(path: Path, target: Path, connection: sqlite3.Connection | None = None) -> None:
    """Copy a store to a file that only its owner can read; an incomplete copy is removed."""
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with replacing(target, partial):
        make_private(partial)
        with closing(sqlite3.connect(partial)) as copy:
            if connection is not None:
                connection.backup(copy)
            else:
                with closing(sqlite3.connect(path)) as source:
                    source.backup(copy)


def make_private(path: Path) -> None:
    """Create an empty file that only its owner can read; SQLite uses the same permissions for the files beside it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def copy_upgraded(
    source: sqlite3.Connection, target: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...]
) -> None:
    """Copy an older store into one in memory and upgrade the copy.

    Raises:
        StoreError: the store is too large.
    """
    pages, size = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size > _MOST_COPIED:
        raise StoreError(
            "The store is of an older proj and can't be upgraded here",
            context=f"{path} can't be written to, and it is too large to be read from a copy in memory",
            hint="Run any proj command with write access to it; the command upgrades it.",
        )
    source.backup(target)
    apply(target, migrations)
