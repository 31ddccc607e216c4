"""Homes on disks that are full or read-only: reading works, writing says why not, and rm frees room."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun, ProcessIdentity
from runner.store.migrations import MIGRATIONS
from tests.conftest import ROOT, RunProj, git, unavailable, write_tree

pytestmark = pytest.mark.slow

COMMAND = "echo hi; echo a=1 >> $PROJ_METRICS; mkdir -p o; echo x > o/f"
PROJECT = {"MLproject": f"name: x\nentry_points:\n  main:\n    command: '{COMMAND}'\n    outputs: [o]\n"}
RUN = ("run", "project", "--env-manager", "local")
SIZE = 12 << 20


class Disk:
    """A small file system of its own, with proj's home on it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = Home(place / "home")

    def fill(self, *, leaving: int = 0) -> None:
        """Leave no byte free, or only so many."""
        number = len(list(self.place.glob("ballast*")))
        with (self.place / f"ballast{number}").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        if leaving:
            os.truncate(self.place / f"ballast{number}", (self.place / f"ballast{number}").stat().st_size - leaving)

    def free(self) -> None:
        for path in self.place.glob("ballast*"):
            path.unlink()

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.place)], check=True)

    def contents(self) -> dict[str, str]:
        paths = (path for path in self.home.root.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True, check=False).returncode:
        raise unavailable("only root may mount a small disk")
    monkeypatch.setenv("PROJ_HOME", str(place / "home"))
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def ids(disk: Disk, tmp_path: Path, proj: RunProj) -> list[str]:
    """Make two runs of a repository with a change that is not committed."""
    root = write_tree(tmp_path / "project", PROJECT)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    (root / "more.py").write_text("print()\n")
    for _ in range(2):
        done = proj(*RUN)
        assert done.code == 0, done.err
    assert disk.home.database.exists()
    return [record["run_id"] for record in proj("list", "--json").json]


def read_everything(proj: RunProj, ids: list[str], folder: Path) -> None:
    first, second = ids
    assert [record["run_id"] for record in proj("list", "--json").json] == ids
    assert proj("show", first, "--json").json["metrics"] == {"a": 1.0}
    assert "proj checkout" in proj("show", first).out
    assert proj("log", first).out == "hi\n"
    assert proj("log", first, "--follow").out == "hi\n"
    assert proj("get", first, "--to", str(folder / "got")).code == 0
    assert (folder / "got" / "o" / "f").read_text() == "x\n"
    assert proj("metrics", first, "a").out.startswith("▅\na: last 1")
    assert proj("compare", first, second).err.strip() == "no differences"
    assert proj("experiments", "list", "--json").json[0]["runs"] == 2
    assert proj("models", "list", "--json").json == []
    assert "more.py" in proj("diff", first).out
    assert proj("checkout", first, str(folder / "code")).code == 0
    assert sorted(path.name for path in (folder / "code").iterdir()) == ["MLproject", "more.py"]
    assert not list(folder.glob(".code*"))
    for words in (("env", "list"), ("check", "project"), ("token", "list"), ("python", "list"), ("verify",)):
        done = proj(*words)
        assert done.code == 0, (words, done.err)
    words = {"COMP_WORDS": "proj show ", "COMP_CWORD": "2", "_PROJ_COMPLETE": "bash_complete"}
    assert f"plain,{first[:12]}" in proj(**words).out.splitlines()


def refuse_writing(proj: RunProj, ids: list[str], why: str) -> None:
    for words in (RUN, ("experiments", "create", "a"), ("rm", "-y", ids[0]), ("experiments", "delete", "0")):
        done = proj(*words)
        assert done.code == 1, words
        assert why in done.err, (words, done.err)
        assert "Traceback" not in done.err


def leave_a_log(home: Home) -> None:
    """Write to the database and be killed, so that the last change is in its log only."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute(\"UPDATE runs SET name = 'in the log'\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(home.database)], check=True)
    home.database.with_name("proj.db-shm").unlink()
    assert home.database.with_name("proj.db-wal").stat().st_size


def test_a_full_disk_is_read_and_written_again_when_there_is_room(
    disk: Disk, ids: list[str], tmp_path: Path, proj: RunProj
) -> None:
    disk.fill()
    read_everything(proj, ids, tmp_path / "out")
    for words in (RUN, ("experiments", "create", "a")):
        done = proj(*words)
        assert done.code == 1
        assert "full" in done.err
        assert "Traceback" not in done.err
    assert [record["run_id"] for record in proj("list", "--json").json] == ids
    disk.free()
    assert proj("experiments", "create", "a").code == 0
    assert proj("verify").code == 0


def test_a_full_disk_is_read_after_a_kill(disk: Disk, ids: list[str], tmp_path: Path, proj: RunProj) -> None:
    leave_a_log(disk.home)
    disk.fill()
    read_everything(proj, ids, tmp_path / "out")
    assert proj("show", ids[0], "--json").json["run_name"] == "in the log"
    disk.free()
    assert proj("show", ids[0], "--json").json["run_name"] == "in the log"


@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_disk_is_read_and_not_changed(
    disk: Disk, ids: list[str], tmp_path: Path, proj: RunProj, killed: bool
) -> None:
    if killed:
        leave_a_log(disk.home)
    before = disk.contents()
    disk.remount("ro")
    read_everything(proj, ids, tmp_path / "out")
    assert (proj("show", ids[0], "--json").json["run_name"] == "in the log") is killed
    refuse_writing(proj, ids, "PROJ_HOME")
    assert disk.contents() == before


def test_a_read_only_view_of_a_home_in_use_shows_what_is_written(
    disk: Disk, ids: list[str], tmp_path: Path, proj: RunProj
) -> None:
    assert len(ids) == 2
    view = tmp_path / "view"
    view.mkdir()
    with closing(Database.open(disk.home.database)) as database:
        database.execute("UPDATE runs SET name = 'live'")
        subprocess.run(["mount", "--bind", str(disk.place), str(view)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(view)], check=True)
            for name in ("live", "later"):
                database.execute("UPDATE runs SET name = ?", name)
                shown = proj("list", "--json", PROJ_HOME=str(view / "home")).json
                assert [record["run_name"] for record in shown] == [name, name]
        finally:
            subprocess.run(["umount", "--lazy", str(view)], check=True)


def test_a_read_only_home_shows_lost_runs_as_lost(disk: Disk, ids: list[str], proj: RunProj) -> None:
    gone = ProcessIdentity(pid=1, started="0", boot="another", host=os.uname().nodename, space="")
    with closing(Database.open(disk.home.database)) as database:
        lost = runs.create(database, NewRun(name="lost", owner=gone)).run_id
    disk.remount("ro")
    assert proj("show", lost, "--json").json["status"] == "LOST"
    assert "without recording the outcome" in proj("show", lost).out
    assert [record["run_id"] for record in proj("list", "--status", "lost", "--json").json] == [lost]
    assert proj("list", "--status", "running", "--json").json == []
    assert {record["run_id"] for record in proj("list", "--json").json} == {lost, *ids}
    disk.remount("rw")
    assert proj("show", lost, "--json").json["status"] == "LOST"
    with closing(sqlite3.connect(disk.home.database)) as store:
        assert store.execute("SELECT status FROM runs WHERE run_id = ?", (lost,)).fetchone() == ("RUNNING",)


@pytest.mark.parametrize("state", ["full", "ro"])
def test_an_older_store_that_cannot_be_upgraded_is_read(disk: Disk, proj: RunProj, state: str) -> None:
    with closing(Database.open(disk.home.database, MIGRATIONS[:2])) as database:
        run_id = runs.create(database, NewRun(name="old")).run_id
    disk.home.root.chmod(0o700)
    disk.fill() if state == "full" else disk.remount("ro")
    assert [record["run_id"] for record in proj("list", "--json").json] == [run_id]
    assert proj("show", run_id).code == 0
    assert proj("models", "list", "--json").json == []
    with closing(sqlite3.connect(f"{disk.home.database.as_uri()}?immutable=1", uri=True)) as store:
        assert store.execute("PRAGMA user_version").fetchone()[0] == 2
    disk.free() if state == "full" else disk.remount("rw")
    assert proj("show", run_id).code == 0
    assert proj("experiments", "create", "a").code == 0


def test_rm_works_without_free_space(disk: Disk, ids: list[str], proj: RunProj) -> None:
    disk.home.reserve.write_bytes(os.urandom(1 << 20))
    disk.fill()
    done = proj("rm", "-y", "--permanently", ids[0])
    assert done.code == 0, done.err
    assert [record["run_id"] for record in proj("list", "--json").json] == ids[1:]
    assert not disk.home.run(ids[0]).exists()
    assert proj("verify").code == 0


def test_rm_frees_the_files_of_a_large_run_first(disk: Disk, ids: list[str], proj: RunProj) -> None:
    artifacts = disk.home.artifacts(ids[1])
    artifacts.mkdir(parents=True, exist_ok=True)
    (artifacts / "large").write_bytes(os.urandom(1 << 20))
    disk.fill()
    done = proj("rm", "-y", "--permanently", ids[1])
    assert done.code == 0, done.err
    assert [record["run_id"] for record in proj("list", "--json").json] == ids[:1]


def test_rm_that_finds_no_free_space_at_all_reports_it_and_can_be_given_again(
    disk: Disk, ids: list[str], proj: RunProj
) -> None:
    for place in (disk.home.folders / ".pool", disk.home.root / "cache" / "code"):
        shutil.rmtree(place, ignore_errors=True)
    disk.fill()
    done = proj("rm", "-y", "--permanently", ids[0])
    assert done.code in (0, 1)
    assert "Traceback" not in done.err
    assert proj("show", ids[1]).code == 0
    disk.free()
    done = proj("rm", "-y", "--permanently", *(ids if done.code else ids[1:]))
    assert done.code == 0, done.err
    assert proj("list", "--json").json == []


def test_repair_on_a_full_disk_loses_nothing(disk: Disk, ids: list[str], proj: RunProj) -> None:
    with disk.home.database.open("r+b") as file:
        file.write(os.urandom(4096))
    before = disk.contents()
    disk.fill()
    done = proj("verify", "--repair")
    assert done.code == 1
    assert "full" in done.err
    assert "Traceback" not in done.err
    after = disk.contents()
    assert {path: after.get(path) for path in before if "proj.db-" not in path} == {
        path: digest for path, digest in before.items() if "proj.db-" not in path
    }
    disk.free()
    assert proj("verify", "--repair").code == 0
    assert {record["run_id"] for record in proj("list", "--json").json} == set(ids)


@pytest.mark.skipif(os.geteuid() != 0, reason="root tries it as another user")
def test_a_home_that_another_user_owns_is_read_without_writing(tmp_path: Path, home: Home) -> None:
    with closing(Database.open(home.database)) as database:
        run_id = runs.create(database, NewRun(name="theirs")).run_id
    for path in (home.root, *home.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in (tmp_path, *home.root.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    code = (
        "import json, os, sys; os.setgid(65534); os.setuid(65534);"
        "from runner.cli.main import run_command; sys.exit(run_command(['list', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PROJ_HOME": str(home.root), "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "ModuleNotFoundError" in done.stderr or "Permission" in done.stderr.partition("error[")[0]:
        pytest.skip("another user can't read this checkout")
    assert done.returncode == 0, done.stderr
    assert [record["run_id"] for record in json.loads(done.stdout)] == [run_id]
    assert "belongs to another user" in done.stderr
    assert sorted(path.name for path in home.root.glob("proj.db*")) == ["proj.db"]
