"""Tests `proj verify`: damage is reported, repaired if no data is lost, and never made worse."""

import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from runner.base.findings import Finding
from runner.errors import FullDiskError
from runner.model import RunDetails
from runner.settings import Home
from runner.source.snapshot_store import RunCommit, keep_commit, write_object
from runner.store import models, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewModel, NewRun
from runner.store.migrations import MIGRATIONS, Migration
from runner.verification.checks import verify_home
from runner.verification.orphans import verify_orphans
from runner.verification.records import verify_records
from tests.conftest import RunProj, write_tree

pytestmark = pytest.mark.slow

DETAILS = '{"command":"python train.py","exit_code":%d,"log":"%s"}'


def look(home: Home, *, repair: bool = False) -> list[Finding]:
    steps: list[str] = []

    def begin(title: str) -> Callable[[int, int], None]:
        steps.append(title)
        return lambda done, total: None if done <= total else pytest.fail(f"{title}: {done} of {total}")

    found = list(verify_home(home, repair=repair, begin=begin))
    assert len(steps) >= 3
    return found


def fill(home: Home, count: int = 30) -> list[str]:
    """Create runs with code, log, metrics and an artifact, as `proj run` does."""
    home.ensure()
    ids = []
    with closing(Database.open(home.database)) as database:
        tree = write_object(home, "tree", b"")
        for number in range(count):
            run_id = runs.create(database, NewRun(name=f"run {number}")).run_id
            message = f'run {run_id}\n\n{{"commit":null,"dirty":false,"remote":null,"root":null,"large":[]}}'
            keep_commit(home, run_id, RunCommit(tree=tree, message=message))
            write_tree(home.run(run_id), {"log.txt": "hi\n", "metrics.txt": "a=1\n", "artifacts/model": b"0" * 10})
            document = DETAILS % (number % 2, home.log(run_id))
            database.execute(
                "UPDATE details SET document = ? WHERE run = (SELECT id FROM runs WHERE run_id = ?)", document, run_id
            )
            values.log_metrics(database, run_id, [Metric(key="a", value=number, timestamp=1, step=s) for s in range(9)])
            ids.append(run_id)
    return ids


@pytest.fixture
def ids(home: Home) -> list[str]:
    return fill(home)


def known(home: Home) -> dict[str, str]:
    with closing(Database.open_to_read(home.database)) as database:
        return {row["run_id"]: row["name"] for row in database.query("SELECT run_id, name FROM runs")}


def test_an_intact_home_has_no_findings_and_is_not_written(home: Home, ids: list[str], proj: RunProj) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()}
    done = proj("verify", "--json")
    assert (done.code, done.json) == (0, [])
    assert "no damage found" in done.err
    assert {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()} == before
    assert len(ids) == 30


def test_a_missing_home_has_no_findings_and_is_not_created(home: Home, proj: RunProj) -> None:
    assert proj("verify").code == 0
    assert not home.root.exists()


def test_a_lost_database_is_reported_and_its_runs_are_recovered(home: Home, ids: list[str], proj: RunProj) -> None:
    for path in home.root.glob("proj.db*"):
        path.unlink()
    for words in (("list",), ("experiments", "list")):
        done = proj(*words)
        assert done.code == 0
        assert "which has the files of 30 runs" in done.err
        assert "proj verify --repair" in done.err
        assert not home.database.exists()
    found = look(home)
    assert [one.part for one in found] == ["database"] + ["orphan"] * 30
    assert all(one.repair is None for one in found)
    found = look(home, repair=True)
    assert all(one.repair for one in found)
    assert look(home) == []
    assert known(home).keys() == set(ids)
    record = proj("show", ids[0], "--json").json
    assert (record["status"], record["experiment"], record["metrics"]) == ("LOST", "recovered", {"a": 1.0})
    assert record["code"]["tree"] == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert proj("log", ids[0]).out == "hi\n"
    assert proj("get", ids[0], "--to", str(home.root / "out")).code == 0
    assert proj("checkout", ids[0], str(home.root / "code")).code == 0


def test_a_run_with_a_new_database_reports_unrecorded_runs(
    home: Home, ids: list[str], tmp_path: Path, proj: RunProj
) -> None:
    home.database.unlink()
    project = write_tree(tmp_path / "p", {"MLproject": "name: x\nentry_points:\n  main:\n    command: echo hi\n"})
    done = proj("run", str(project), "--env-manager", "local")
    assert done.code == 0
    assert "which has the files of 30 runs" in done.err
    assert proj("verify", "--repair").code == 0
    assert known(home).keys() > set(ids)


@pytest.mark.parametrize("place", ["ref", "files", "folder"])
def test_each_thing_that_is_left_of_a_run_names_it(home: Home, ids: list[str], place: str) -> None:
    run_id = ids[3]
    with closing(Database.open(home.database)) as database:
        runs.purge(database, run_id)
    (home.folders / run_id).mkdir(parents=True)
    if place != "files":
        shutil.rmtree(home.run(run_id))
    if place == "folder":
        (home.snapshot_store / "refs" / "runs" / run_id).unlink()
    (found,) = look(home)
    assert (found.part, run_id in found.name) == ("orphan", True)
    assert look(home, repair=True)[0].repair
    assert look(home) == []
    assert run_id in known(home)


def test_models_and_uploads_without_a_row_are_named_and_kept(home: Home, ids: list[str]) -> None:
    with closing(Database.open(home.database)) as database:
        kept = models.create(database, NewModel(name="kept")).model_id
    old = home.artifacts(ids[0]) / ".proj-partial-0123"
    young = home.artifacts(ids[0]) / ".proj-partial-4567"
    lost = home.root / "runs" / "models" / f"m-{'0' * 32}"
    write_tree(home.root, {f"runs/models/{kept}/artifacts/x": "x", f"runs/models/{lost.name}/artifacts/x": "x"})
    for path in (old, young):
        path.write_text("part")
    os.utime(old, (1, 1))
    for repair in (False, True):
        found = {one.name for one in look(home, repair=repair)}
        assert found == {f"runs/models/{lost.name}", old.relative_to(home.root).as_posix()}
        assert lost.exists()
        assert old.exists()


def test_rows_with_missing_files_are_reported(home: Home, ids: list[str]) -> None:
    home.log(ids[1]).unlink()
    (found,) = look(home)
    assert ids[1] in found.name
    assert "log" in found.problem
    assert look(home, repair=True)[0].repair is None


def damage_index(path: Path) -> None:
    """Change the rows while the index is hidden, each step in a connection that reads the schema again."""
    with closing(sqlite3.connect(path)) as store:
        root = store.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs_by_name'").fetchone()[0]
    row = ("index", "runs_by_name", "runs", root, "CREATE INDEX runs_by_name ON runs (name)")
    for sql, args in (
        ("DELETE FROM sqlite_master WHERE name = 'runs_by_name'", ()),
        ("UPDATE runs SET name = name || ' again'", ()),
        ("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row),
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as store:
            store.execute("PRAGMA writable_schema = ON")
            store.execute(sql, args)


def test_damaged_indexes_are_made_again_from_the_rows(home: Home, ids: list[str]) -> None:
    damage_index(home.database)
    (found,) = look(home)
    assert "index" in found.problem
    assert "indexes were rebuilt" in (look(home, repair=True)[0].repair or "")
    assert look(home) == []
    assert known(home).keys() == set(ids)
    assert all(name.endswith(" again") for name in known(home).values())


def overwrite_pages(path: Path, rng: random.Random, count: int) -> None:
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for page in rng.sample(range(1, pages), min(count, pages - 1)):
            file.seek(page * 4096)
            file.write(rng.randbytes(4096))


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(1, path.stat().st_size))


def blind(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.write(rng.randbytes(4096))


def flip(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(20):
            file.seek(rng.randrange(path.stat().st_size))
            file.write(rng.randbytes(8))


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "one page": lambda path, rng: overwrite_pages(path, rng, 1),
    "many pages": lambda path, rng: overwrite_pages(path, rng, 12),
    "cut": cut,
    "no head": blind,
    "flipped bytes": flip,
    "zeros": lambda path, _rng: path.write_bytes(bytes(path.stat().st_size)),
    "another file": lambda path, _rng: path.write_text("this is no database at all\n" * 1000) and None,
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("seed", range(4))
def test_any_damage_of_the_database_is_healed_and_the_damaged_file_kept(home: Home, kind: str, seed: int) -> None:
    ids = fill(home, 12)
    with closing(Database.open(home.database)) as database:
        database.query("PRAGMA wal_checkpoint(TRUNCATE)")
    DAMAGES[kind](home.database, random.Random(seed))
    damaged = home.database.read_bytes()
    first = look(home)
    assert home.database.read_bytes() == damaged, "a look changes nothing"
    repaired = look(home, repair=True)
    assert [one for one in look(home) if "log of this run" not in one.problem] == []
    assert known(home).keys() >= set(ids)
    if first:
        assert repaired
        kept = [path.read_bytes() for path in home.root.glob("proj.db.*") if path.is_file()]
        assert damaged in kept or not any("damaged" in one.problem for one in first)
    with closing(Database.open(home.database)) as database:
        assert runs.create(database, NewRun(name="after")).name == "after"


def test_a_lost_head_costs_no_row(home: Home, ids: list[str]) -> None:
    before = known(home)
    blind(home.database, random.Random(1))
    assert re.search(r"saved [\d,]+ rows", look(home, repair=True)[0].repair or "")
    assert known(home) == before
    assert len(ids) == 30


def test_a_backup_stands_in_where_nothing_can_be_read(home: Home, ids: list[str]) -> None:
    before = known(home)
    shutil.copy(home.database, home.root / "proj.db.0007.backup")
    home.database.write_text("this is no database at all\n" * 1000)
    assert "the backup proj.db.0007.backup" in (look(home, repair=True)[0].repair or "")
    assert known(home) == before
    assert len(ids) == 30


def test_the_hint_for_damage_names_backups_only_where_there_are_some(home: Home, ids: list[str], proj: RunProj) -> None:
    blind(home.database, random.Random(1))
    done = proj("show", ids[0])
    assert "proj verify --repair" in done.err
    assert ".backup" not in done.err
    (home.root / "proj.db.0007.backup").write_bytes(b"")
    assert "proj.db.0007.backup" in proj("show", ids[0]).err


def test_orphaned_rows_get_their_parents_restored(home: Home, ids: list[str]) -> None:
    with closing(sqlite3.connect(home.database, isolation_level=None)) as store:
        store.execute("DELETE FROM runs WHERE run_id = ?", (ids[0],))
        store.execute("DELETE FROM experiments")
        store.execute("INSERT INTO tags VALUES (999, 'a', 'b')")
        store.execute("DROP INDEX runs_by_start")
    parts = {name for one in look(home) for name in re.findall(r"^\d+ rows? of (\S+)", one.problem)}
    assert parts >= {"'runs'", "'tags'", "'details'", "'points'"}
    repaired = look(home, repair=True)
    assert all(one.repair for one in repaired)
    assert look(home) == []
    with closing(Database.open_to_read(home.database)) as database:
        run = runs.get(database, ids[0])
        assert (run.name, run.status.value, run.metrics["a"].value) == ("run 0", "FINISHED", 0)
        assert database.query("SELECT name FROM experiments WHERE id = 0")[0][0] == "Default"
    (backup,) = home.root.glob("*.before-repair-*.backup")
    with closing(sqlite3.connect(backup)) as store:
        assert store.execute("SELECT count(*) FROM tags WHERE run = 999").fetchone()[0] == 1


def test_a_store_in_use_is_not_replaced(home: Home, ids: list[str]) -> None:
    with closing(sqlite3.connect(home.database)) as other:
        other.execute("SELECT count(*) FROM runs").fetchone()
        overwrite_pages(home.database, random.Random(5), 20)
        found = look(home, repair=True)[0]
        assert found.repair is None
        assert "in use" in found.problem
    assert len(ids) == 30


def test_a_newer_store_is_not_touched(home: Home, ids: list[str], proj: RunProj) -> None:
    newer = (*MIGRATIONS, Migration(name="9999 later", statements=(), breaks_readers=True))
    Database.open(home.database, newer).close()
    before = home.database.read_bytes()
    done = proj("verify", "--repair")
    assert done.code == 1
    assert "newer proj" in done.err
    assert home.database.read_bytes() == before
    assert len(ids) == 30


def test_a_repair_for_which_there_is_no_room_is_not_begun(
    home: Home, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(home)
    blind(home.database, random.Random(1))
    damaged = home.database.read_bytes()
    monkeypatch.setattr("runner.verification.salvage.free_bytes", lambda _folder: 2 * len(damaged))
    with pytest.raises(FullDiskError, match="full"):
        look(home, repair=True)
    assert home.database.read_bytes() == damaged
    assert [path.name for path in home.root.glob("proj.db*")] == ["proj.db"]
    monkeypatch.undo()
    look(home, repair=True)
    assert known(home) == before
    assert len(ids) == 30


@pytest.mark.parametrize("damage", ["emptied", "cut off", "one byte", "longer", "another", "link", "pipe", "missing"])
def test_a_damaged_log_is_named_and_kept(home: Home, proj: RunProj, tmp_path: Path, damage: str) -> None:
    root = write_tree(tmp_path / "p", {"MLproject": "entry_points:\n  main:\n    command: echo said\n"})
    run_id = proj("run", str(root), "--env-manager", "local", "--json").json["run_id"]
    assert look(home) == []
    log = home.log(run_id)
    content = log.read_bytes()
    assert content
    log.unlink()
    damaged = {
        "emptied": b"",
        "cut off": content[:-1],
        "one byte": bytes([content[0] ^ 1]) + content[1:],
        "longer": content + b"\n",
        "another": bytes(reversed(content)) + b"x",
    }
    if damage in damaged:
        log.write_bytes(damaged[damage])
    elif damage == "link":
        log.with_name("elsewhere").write_bytes(content)
        log.symlink_to(log.with_name("elsewhere"))
    elif damage == "pipe":
        os.mkfifo(log)
    for repair in (False, True):
        found = look(home, repair=repair)
        assert [(one.name, "log of this run" in one.problem, one.repair) for one in found] == [(run_id, True, None)]
    if damage in damaged:
        assert log.read_bytes() == damaged[damage]


@pytest.mark.parametrize("repair", [False, True])
def test_a_run_that_is_removed_during_a_check_is_no_damage(home: Home, repair: bool) -> None:
    home.ensure()
    details = RunDetails(command="true", exit_code=0, log=str(home.root / "absent.txt"))
    with closing(Database.open(home.database)) as database:
        kept, removed = (runs.create(database, NewRun(details=details)).run_id for _ in range(2))
        found = verify_records(home, repair=repair, progress=lambda *_: None)
        assert next(found).name == kept
        runs.delete(database, removed)
        assert list(found) == []
    orphans = [f"{digit}" * 32 for digit in "ab"]
    for run_id in orphans:
        home.run(run_id).mkdir(parents=True)
    found = verify_orphans(home, repair=repair, progress=lambda *_: None)
    assert next(found).name == f"runs/{orphans[0]}"
    home.run(orphans[1]).rmdir()
    assert list(found) == []
    with closing(Database.open(home.database)) as database:
        rows = database.query("SELECT run_id FROM runs WHERE run_id = ?", orphans[1])
    assert rows == []
