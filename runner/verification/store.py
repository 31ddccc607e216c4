"""Checks the database: its pages, its references and its schema."""

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from runner.base.findings import Finding, Progress
from runner.base.plurals import counted
from runner.errors import DamagedStoreError
from runner.settings import Home
from runner.store.database import Database
from runner.store.migrations import MIGRATIONS, apply
from runner.store.read_only import connect, memory_way
from runner.store.upgrading import save_copy
from runner.verification.references import complete_references
from runner.verification.salvage import is_alone, salvage

PART = "database"
_INDEX_ONLY = re.compile(r"row \d+ missing from index|wrong # of entries in index|non-unique entry in index|NULL value")
_SCHEMA = "SELECT name, sql FROM main.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
_MOST = 20
"""Maximum number of faults of one kind in a message."""
_OPTIONAL = frozenset(("compatibility",))
"""Tables that are absent from stores of the first schema until their next upgrade."""


def verify_store(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Check the database of runs.

    Raises:
        StoreError: a newer proj changed the database so that this version can't read it.
    """
    path = home.database
    if not path.exists():
        count = home.count_runs_without_store()
        if count:
            problem = f"it is missing, but files of {counted(count, 'run')} exist"
            yield _finding(path, problem, _begin_anew(path) if repair else None)
        return
    progress(0, 3)
    faults = _damage(path)
    if faults:
        yield from _damaged(path, faults, repair=repair)
        if not repair:
            return
    progress(1, 3)
    yield from _loose_references(path, repair=repair)
    progress(2, 3)
    yield from _incomplete_schema(path, repair=repair)
    progress(3, 3)


def _finding(path: Path, problem: str, repair: str | None = None) -> Finding:
    return Finding(part=PART, name=path.name, problem=problem, repair=repair)


def _begin_anew(path: Path) -> str:
    Database.open(path).close()
    return "created an empty one; runs with files are recovered into it"


def _damage(path: Path) -> list[str]:
    """Return SQLite's messages about damaged pages of a store; empty if there is no damage.

    Raises:
        StoreError: a newer proj wrote the store, or the permissions do not allow reading it.
    """
    try:
        with closing(Database.open_to_read(path)) as database:
            faults = [text for (text,) in database.query(f"PRAGMA main.integrity_check({_MOST})") if text != "ok"]
            number = database.query("PRAGMA main.user_version")[0][0]
            return faults or (_changed_schema(_schema_of(database)) if number == len(MIGRATIONS) else [])
    except DamagedStoreError as error:
        return [(error.context or error.message).removeprefix(f"{path}: ")]


def _damaged(path: Path, faults: list[str], *, repair: bool) -> Iterator[Finding]:
    """Yield the damage, after its repair if requested."""
    shown = "; ".join(line for fault in faults[:_MOST] for line in fault.splitlines()[:_MOST])
    if not repair:
        yield _finding(path, f"it is damaged: {shown}")
        return
    if not is_alone(path):
        yield _finding(path, f"it is damaged, and can't be repaired while it is in use: {shown}")
        return
    if all(map(_INDEX_ONLY.match, (line for fault in faults for line in fault.splitlines()))):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("REINDEX")
        if not _damage(path):
            yield _finding(path, f"its indexes are damaged: {shown}", "the indexes were rebuilt from the rows")
            return
    yield _finding(path, f"it is damaged: {shown}", salvage(path))


def _loose_references(path: Path, *, repair: bool) -> Iterator[Finding]:
    """Yield the rows whose run, experiment or model is missing, grouped by table."""
    with closing(Database.open_to_read(path)) as database:
        found = Counter((row["table"], row["parent"]) for row in database.query("PRAGMA main.foreign_key_check"))
    if not found:
        return
    done = None
    if repair:
        backup = path.with_name(f"{path.name}.before-repair-{_stamp()}.backup")
        save_copy(path, backup)
        with closing(Database.open(path)) as database:
            done = f"{complete_references(database)}; the previous state is kept as {backup.name}"
    for (table, parent), count in sorted(found.items()):
        yield _finding(
            path, f"{counted(count, 'row')} of '{table}' without the rows of '{parent}' that they name", done
        )


def _incomplete_schema(path: Path, *, repair: bool) -> Iterator[Finding]:
    """Yield missing tables, indexes, views and triggers."""
    wanted = _wanted_schema()
    with closing(Database.open_to_read(path)) as database:
        present = _schema_of(database)
    for name in wanted:
        if name in present or name in _OPTIONAL:
            continue
        done = None
        if repair:
            with closing(Database.open(path)) as database:
                database.execute(wanted[name])
            done = "it was created again"
        yield _finding(path, f"'{name}' of the schema is missing", done)


def _wanted_schema() -> dict[str, str]:
    """Return the statements that create the schema, by object name."""
    with closing(connect(memory_way())) as fresh:
        apply(fresh, MIGRATIONS)
        return dict(fresh.execute(_SCHEMA).fetchall())


def _schema_of(database: Database) -> dict[str, str]:
    return {row["name"]: row["sql"] for row in database.query(_SCHEMA)}


def _changed_schema(present: dict[str, str]) -> list[str]:
    wanted = _wanted_schema()
    return [
        f"'{name}' of the schema was changed" for name, sql in present.items() if name in wanted and sql != wanted[name]
    ]


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
