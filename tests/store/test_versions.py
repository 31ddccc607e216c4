"""Tests two versions of proj on one home: an older one works or is refused, and an upgrade loses nothing."""

import hashlib
import os
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.migrations import MIGRATIONS, Migration
from runner.store.process_identity import this_process
from runner.store.upgrading import Schema, check_schema
from tests.conftest import ROOT, RunProj, write_tree

pytestmark = pytest.mark.slow

ADDS = (*MIGRATIONS, Migration(name="9001 adds", statements=("CREATE TABLE more (x)",)))
CHANGES = (
    *MIGRATIONS,
    Migration(name="9001 changes", statements=("ALTER TABLE tags ADD COLUMN more TEXT",), breaks_writers=True),
)
BREAKS = (*MIGRATIONS, Migration(name="9001 breaks", statements=("DROP TABLE points",), breaks_readers=True))


def digest_of(step: Migration) -> str:
    return hashlib.sha256("\0".join((step.name, *step.statements)).encode()).hexdigest()[:16]


def test_steps_that_stores_have_are_never_edited() -> None:
    """An upgraded store must have the schema of a new one."""
    frozen = (Path(__file__).parents[1] / "schema_steps.txt").read_text(encoding="utf-8").split("\n")
    known = dict(line.rsplit(" ", 1) for line in frozen if line)
    now = {step.name: digest_of(step) for step in MIGRATIONS}
    assert {name: now.get(name) for name in known} == known, "add a step instead"
    assert now.keys() == known.keys(), "write the digest of the new step into tests/schema_steps.txt"
    assert list(now) == sorted(now)


def test_a_step_that_only_adds_lets_older_programs_go_on(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    Database.open(path, ADDS).close()
    with closing(Database.open(path)) as database:
        run_id = runs.create(database, NewRun(name="by the older one")).run_id
    with closing(Database.open_to_read(path)) as database:
        assert runs.get(database, run_id).name == "by the older one"
    with closing(Database.open(path, ADDS)) as database:
        assert runs.get(database, run_id).name == "by the older one"
        assert database.query("PRAGMA user_version")[0][0] == len(ADDS)


def test_a_step_that_breaks_writers_lets_older_programs_read(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    with closing(Database.open(path, CHANGES)) as database:
        assert check_schema(database._connect(), path, MIGRATIONS, writing=False) is Schema.NEWER
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer proj") as caught:
        Database.open(path)
    assert "9001 changes" in str(caught.value.context)
    with closing(Database.open_to_read(path)) as database:
        assert database.query("SELECT name FROM experiments")[0]["name"] == "Default"
    assert path.read_bytes() == before


def test_a_newer_home_is_refused_before_anything_is_done(home: Home, tmp_path: Path, proj: RunProj) -> None:
    home.ensure()
    Database.open(home.database, BREAKS).close()
    project = write_tree(tmp_path / "p", {"MLproject": "name: x\nentry_points:\n  main:\n    command: echo hi\n"})
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*")}
    for words in (("run", str(project), "--env-manager", "local"), ("list",), ("rm", "-y", "latest"), ("verify",)):
        done = proj(*words)
        assert done.code == 1, words
        assert "newer proj" in done.err
        assert "Upgrade proj" in done.err
    assert {path: path.stat().st_mtime_ns for path in home.root.rglob("*")} == before


WRITER = """
import sys, time
from contextlib import closing
from pathlib import Path
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.migrations import MIGRATIONS
from runner.store.process_identity import this_process
from runner.model import RunStatus
path, known = Path(sys.argv[1]), MIGRATIONS[:int(sys.argv[2])]
with closing(Database.open(path, known)) as db:
    run_id = runs.create(db, NewRun(name="long", owner=this_process())).run_id
    print(run_id, flush=True)
    for step in range(400):
        values.log_metrics(db, run_id, [Metric(key="loss", value=step, timestamp=1, step=step)])
        values.set_tags(db, run_id, {"step": str(step)})
        if step == 50:
            print("busy", flush=True)
            sys.stdin.readline()
    runs.update(db, run_id, status=RunStatus.FINISHED)
    runs.set_owner(db, run_id, None)
"""


def start_writer(path: Path, known: int) -> "tuple[subprocess.Popen[str], str]":
    words = [sys.executable, "-c", WRITER, str(path), str(known)]
    writer = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    run_id = writer.stdout.readline().strip()
    assert writer.stdout.readline() == "busy\n"
    return writer, run_id


@pytest.mark.parametrize("known", [6, len(MIGRATIONS)])
def test_an_upgrade_under_a_run_of_an_older_program_loses_nothing(tmp_path: Path, known: int) -> None:
    path = tmp_path / "proj.db"
    writer, run_id = start_writer(path, known)
    with closing(Database.open(path, ADDS)) as database:
        assert database.query("PRAGMA user_version")[0][0] == len(ADDS)
        writer.communicate("go\n", timeout=120)
        assert writer.returncode == 0
        run = runs.get(database, run_id)
        assert (run.status.value, run.tags["step"]) == ("FINISHED", "399")
        assert len(values.metric_history(database, run_id, "loss", limit=1000).items) == 400


def test_an_upgrade_that_would_break_a_running_program_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    writer, run_id = start_writer(path, len(MIGRATIONS))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="an older proj is using it") as caught:
        Database.open(path, CHANGES)
    assert "Wait until its runs are over" in (caught.value.hint or "")
    assert path.read_bytes() == before
    with closing(Database.open_to_read(path, CHANGES)) as database:
        assert runs.get(database, run_id).name == "long", "what is read is a copy that was upgraded"
        assert "more" in [row["name"] for row in database.query("PRAGMA table_info(tags)")]
    writer.communicate("go\n", timeout=120)
    assert writer.returncode == 0
    with closing(Database.open(path, CHANGES)) as database:
        assert runs.get(database, run_id).tags["step"] == "399"
    assert [backup.name for backup in tmp_path.glob("*.backup")] == [f"proj.db.{len(MIGRATIONS):04d}.backup"]


def test_without_a_write_ahead_log_the_running_runs_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.store.upgrading.is_on_network", lambda _folder: True)
    path = tmp_path / "proj.db"
    with closing(Database.open(path)) as database:
        assert database.query("PRAGMA journal_mode")[0][0] == "delete"
        run_id = runs.create(database, NewRun(name="mine", owner=this_process())).run_id
        with pytest.raises(StoreError, match="an older proj is using it") as caught:
            Database.open(path, CHANGES)
        assert run_id[:8] in str(caught.value.context)
        values.log_metrics(database, run_id, [Metric(key="a", value=1, timestamp=1)])


OLDER = ("eded4c4", "bc29e32")


def older_code(commit: str, folder: Path) -> Path:
    """Return the source tree at a commit, if this clone has the commit."""
    words = ["git", "archive", "--format=tar", commit, "runner", "pyproject.toml"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this clone does not reach back to {commit}; the tests above stand in for older programs")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder / commit, filter="data")
    return folder / commit


def start(code: Path, home: Home, cwd: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(code), "PROJ_HOME": str(home.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("commit", OLDER)
def test_a_run_of_older_code_continues_during_an_upgrade(
    home: Home, tmp_path: Path, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = older_code(commit, tmp_path)
    command = "echo begun; while [ ! -e $DONE ]; do sleep 0.1; done; echo a=1 >> $PROJ_METRICS; echo ended"
    project = write_tree(tmp_path / "p", {"MLproject": f"name: x\nentry_points:\n  main:\n    command: '{command}'\n"})
    monkeypatch.setenv("DONE", str(tmp_path / "done"))
    running = start(code, home, tmp_path, "run", str(project), "--env-manager", "local", "--json")
    deadline = time.monotonic() + 60
    while not list(home.root.glob("runs/*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    Database.open(home.database, ADDS).close()
    (tmp_path / "done").touch()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert '"FINISHED"' in out
    with closing(Database.open(home.database, ADDS)) as database:
        (run_id,) = (row["run_id"] for row in database.query("SELECT run_id FROM runs"))
        run = runs.get(database, run_id)
        assert (run.status.value, run.metrics["a"].value) == ("FINISHED", 1)
    refused = start(code, home, tmp_path, "list")
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "newer proj" in err
    assert "Traceback" not in err
    mine = start(ROOT, home, tmp_path, "show", run_id)
    assert mine.communicate(timeout=60)[0].startswith(f"run {run_id}")
