"""Changes that are committed together: each is whole or nothing, and none is answered before it is safe."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import FullDiskError, InvalidValueError
from runner.server.write_batching import WriteBatcher
from runner.store.database import Database

INSERT = "INSERT INTO experiment_tags VALUES (0, ?, 'x')"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "proj.db")) as database:
        yield database


@pytest.fixture
def printed(db: Database) -> list[str]:
    """Return the list of all notices to the one idle connection."""
    found: list[str] = []
    db._idle[0].set_trace_callback(found.append)
    return found


def keys(path: Path) -> set[str]:
    """Return what somebody else sees."""
    with closing(sqlite3.connect(path)) as other:
        return {key for (key,) in other.execute("SELECT key FROM experiment_tags")}


def make(db: Database, *changes: Callable[[], object]) -> list[object]:
    """Make changes at the same moment, and return the answers or the errors."""

    async def all_of_them() -> list[object]:
        writes = WriteBatcher(db)
        return list(await asyncio.gather(*(writes.make(change) for change in changes), return_exceptions=True))

    return asyncio.run(all_of_them())


def test_changes_of_one_moment_have_one_commit(db: Database, printed: list[str]) -> None:
    changes = [lambda key=key: db.execute(INSERT, key) for key in "abcdefgh"]
    assert make(db, *changes) == [1] * 8
    assert printed.count("COMMIT") == printed.count("BEGIN IMMEDIATE") == 1
    assert keys(db.path) == set("abcdefgh")


def test_nothing_is_answered_before_it_is_safe(db: Database) -> None:
    async def one(writes: WriteBatcher, key: str) -> bool:
        await writes.make(lambda: db.execute(INSERT, key))
        return key in keys(db.path)

    async def several() -> list[bool]:
        writes = WriteBatcher(db)
        found = await asyncio.gather(*(one(writes, key) for key in "abc"))
        return [*found, await one(writes, "later")]

    assert asyncio.run(several()) == [True] * 4


def test_what_fails_is_undone_alone(db: Database) -> None:
    def fail() -> None:
        with db.transaction():
            db.execute(INSERT, "bad")
            raise InvalidValueError("no")

    def half() -> None:
        db.execute(INSERT, "first half")
        raise InvalidValueError("no")

    answers = make(db, lambda: db.execute(INSERT, "a"), fail, half, lambda: db.execute(INSERT, "b"))
    assert [type(answer) for answer in answers] == [int, InvalidValueError, InvalidValueError, int]
    assert keys(db.path) == {"a", "b", "first half"}


def test_what_fails_leaves_nothing_open(db: Database) -> None:
    def half() -> None:
        db.execute(INSERT, "kept")
        raise InvalidValueError("no")

    assert isinstance(make(db, half)[0], InvalidValueError)
    assert not db.has_batch
    assert keys(db.path) == {"kept"}


def test_a_question_needs_no_commit_and_sees_what_came_before(db: Database, printed: list[str]) -> None:
    count = "SELECT count(*) FROM experiment_tags"
    assert make(db, lambda: db.query(count)[0][0]) == [0]
    assert "BEGIN IMMEDIATE" not in printed
    assert make(db, lambda: db.execute(INSERT, "a"), lambda: db.query(count)[0][0]) == [1, 1]


def test_a_full_disk_is_reported_to_all_of_them(db: Database) -> None:
    pages = db.query("PRAGMA page_count")[0][0]
    db.query(f"PRAGMA max_page_count = {pages + 3}")
    large = [(0, str(number), "x" * 3000) for number in range(100)]
    answers = make(
        db,
        lambda: db.execute(INSERT, "a"),
        lambda: db.execute_many("INSERT INTO experiment_tags VALUES (?, ?, ?)", large),
    )
    assert [type(answer) for answer in answers] == [FullDiskError, FullDiskError]
    assert keys(db.path) == set()
    db.query(f"PRAGMA max_page_count = {pages + 1000}")
    assert make(db, lambda: db.execute(INSERT, "b")) == [1]
    assert keys(db.path) == {"b"}


def test_a_transaction_of_its_own_does_not_wait_for_them(db: Database) -> None:
    with db.batching():
        db.execute(INSERT, "a")
    assert db.has_batch
    db.execute(INSERT, "b")
    assert keys(db.path) == {"a", "b"}
    db.commit_batch()


def test_another_thread_waits_until_they_are_committed(db: Database) -> None:
    with db.batching():
        db.execute(INSERT, "a")
    other = threading.Thread(target=db.execute, args=(INSERT, "b"))
    other.start()
    other.join(0.05)
    assert other.is_alive()
    db.commit_batch()
    other.join()
    assert keys(db.path) == {"a", "b"}


def test_a_store_that_is_closed_has_them(tmp_path: Path) -> None:
    with closing(Database.open(tmp_path / "proj.db")) as db, db.batching():
        db.execute(INSERT, "a")
    assert keys(tmp_path / "proj.db") == {"a"}
