"""Tests opening, upgrading, transactions and threads of the database."""

import multiprocessing
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store import database, disk, read_only
from runner.store.database import Database
from runner.store.migrations import MIGRATIONS, Migration

OLD = MIGRATIONS[:1]
NEXT = (
    *MIGRATIONS,
    Migration(
        name="9999 more",
        statements=("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)"),
        breaks_readers=True,
    ),
)
BROKEN = (
    *MIGRATIONS,
    Migration(name="9998 good", statements=("CREATE TABLE good (x)",)),
    Migration(name="9999 broken", statements=("CREATE TABLE broken (x)", "SELECT * FROM nowhere")),
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "proj.db")) as database:
        yield database


def test_a_new_store_is_made_with_its_folders_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "some" / "home" / "proj.db"
    with closing(Database.open(path)) as db:
        assert db.query("PRAGMA journal_mode")[0][0] == "wal"
        assert [row["name"] for row in db.query("SELECT name FROM migrations ORDER BY name")] == [
            step.name for step in MIGRATIONS
        ]
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_existing_store_opens_at_once(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    Database.open(path).close()
    times = []
    for _ in range(20):
        start = time.process_time()
        Database.open(path).close()
        times.append(time.process_time() - start)
    assert min(times) < 0.005


def test_a_network_file_system_gets_a_rollback_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:1 / / rw - ext4 /dev/sda rw\n"
        f"23 22 0:2 / {tmp_path.resolve()}/far rw,relatime shared:1 - nfs4 server:/x rw\n"
    )
    monkeypatch.setattr(disk, "_MOUNTS", mounts)
    (tmp_path / "far" / "home").mkdir(parents=True)
    assert not disk.is_on_network(tmp_path)
    assert disk.is_on_network(tmp_path / "far" / "home")
    with closing(Database.open(tmp_path / "far" / "home" / "proj.db")) as db:
        assert db.query("PRAGMA journal_mode")[0][0] == "delete"


def test_an_older_store_is_upgraded_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    with closing(Database.open(path, OLD)) as db:
        db.execute("UPDATE experiments SET name = 'kept'")
    with closing(Database.open(path)) as db:
        assert db.query("SELECT name FROM experiments")[0]["name"] == "kept"
        assert db.query("SELECT count(*) FROM models")[0][0] == 0
    backups = list(tmp_path.glob("*.backup"))
    assert len(backups) == 1
    with closing(sqlite3.connect(backups[0])) as backup:
        assert backup.execute("SELECT name FROM experiments").fetchall() == [("kept",)]
        assert backup.execute("SELECT name FROM migrations").fetchall() == [(OLD[0].name,)]


def test_a_new_store_has_no_backup(tmp_path: Path) -> None:
    Database.open(tmp_path / "proj.db").close()
    assert not list(tmp_path.glob("*.backup"))


def test_a_failing_upgrade_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    Database.open(path).close()
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database.open(path, BROKEN)
    with closing(Database.open(path)) as db:
        assert not db.query("SELECT 1 FROM sqlite_master WHERE name IN ('good', 'broken')")
        assert db.query("PRAGMA user_version")[0][0] == len(MIGRATIONS)


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    Database.open(path, NEXT).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer proj") as caught:
        Database.open(path)
    assert "9999 more" in str(caught.value.context)
    assert path.read_bytes() == before


def test_a_foreign_file_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE theirs (x)")
    text = tmp_path / "text.db"
    text.write_text("this is no database, and it is long enough to be looked at as one\n" * 100)
    for path in (database, text):
        before = path.read_bytes()
        with pytest.raises(StoreError, match="not a store of proj"):
            Database.open(path)
        assert path.read_bytes() == before


def test_a_home_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be opened"):
        Database.open(tmp_path / "file" / "proj.db")


def test_a_transaction_is_atomic(db: Database) -> None:
    def fail() -> None:
        with db.transaction():
            db.execute("UPDATE experiments SET name = 'changed'")
            with db.transaction():
                db.execute("UPDATE experiments SET created_at = 5")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    row = db.query("SELECT name, created_at FROM experiments")[0]
    assert row["name"] == "Default"
    assert row["created_at"] != 5
    with db.transaction():
        db.execute("UPDATE experiments SET name = 'changed'")
        assert db.query("SELECT name FROM experiments")[0]["name"] == "changed"
    assert db.query("SELECT name FROM experiments")[0]["name"] == "changed"


def test_a_full_disk_is_explained_and_the_store_stays_sound(db: Database) -> None:
    pages = db.query("PRAGMA page_count")[0][0]
    db.query(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreError, match="disk is full"):
        db.execute_many("INSERT INTO experiment_tags VALUES (0, ?, ?)", ((str(n), "x" * 3000) for n in range(100)))
    assert db.query("SELECT count(*) FROM experiment_tags")[0][0] == 0
    assert db.query("PRAGMA integrity_check")[0][0] == "ok"
    db.query(f"PRAGMA max_page_count = {pages + 1000}")
    db.execute("INSERT INTO experiment_tags VALUES (0, 'a', 'b')")
    assert db.query("SELECT count(*) FROM experiment_tags")[0][0] == 1


def test_many_threads_write_and_read(db: Database) -> None:
    faults: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(50):
                with db.transaction():
                    db.execute("INSERT INTO experiment_tags VALUES (0, ?, '')", f"{thread}/{number}")
                    assert db.query("SELECT 1 FROM experiment_tags WHERE key = ?", f"{thread}/{number}")
                db.query("SELECT count(*) FROM experiment_tags")
        except BaseException as fault:  # noqa: BLE001
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert db.query("SELECT count(*) FROM experiment_tags")[0][0] == 300


def test_a_reader_does_not_wait_for_a_writer_of_another_thread(db: Database) -> None:
    read = threading.Event()

    def look() -> None:
        assert db.query("SELECT name FROM experiments")[0]["name"] == "Default"
        read.set()

    with db.transaction():
        db.execute("UPDATE experiments SET name = 'changed'")
        thread = threading.Thread(target=look)
        thread.start()
        assert read.wait(10)
        thread.join()


def _open(path: str, gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.001)
    Database.open(Path(path)).close()


def test_several_processes_make_one_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = tmp_path / "gate"
    path = tmp_path / "home" / "proj.db"
    processes = [context.Process(target=_open, args=(str(path), str(gate))) for _ in range(4)]
    for process in processes:
        process.start()
    gate.touch()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with closing(Database.open(path)) as db:
        assert db.query("SELECT count(*) FROM migrations")[0][0] == len(MIGRATIONS)


def test_the_limit_of_file_sizes_is_explained(db: Database) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (db.path.stat().st_size + 100_000, hard))
    try:
        with pytest.raises(StoreError, match="limit of file sizes") as caught:
            db.execute("UPDATE experiments SET name = ?", "x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ulimit -f" in (caught.value.hint or "")
    assert db.query("PRAGMA integrity_check")[0][0] == "ok"


def test_a_store_that_is_read_alone_is_not_upgraded_under_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for SQLite's files the reader holds the lock that an upgrade would wait for."""
    path = tmp_path / "proj.db"
    Database.open(path, MIGRATIONS[:2]).close()
    alone = next(way for way in read_only.other_ways(path) if "PRAGMA locking_mode = EXCLUSIVE" in way.settings)
    tried: list[Path] = []
    monkeypatch.setattr(database, "upgrade", lambda path, _migrations: tried.append(path))
    with closing(Database(path, alone).in_schema(MIGRATIONS)) as found:
        assert found.query("SELECT name FROM experiments")[0]["name"] == "Default"
    assert tried == []
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("PRAGMA user_version").fetchone()[0] == 2


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
@pytest.mark.parametrize("is_writing", [True, False])
def test_a_store_that_is_no_file_is_explained(tmp_path: Path, kind: str, is_writing: bool) -> None:
    path = tmp_path / "proj.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere" / "proj.db")
    with pytest.raises(StoreError, match="not a file") as caught:
        (Database.open if is_writing else Database.open_to_read)(path)
    assert "Move it away" in (caught.value.hint or "")
