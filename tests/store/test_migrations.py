"""Tests the upgrade of stores of older versions, including killed upgrades."""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.migrations import MIGRATIONS, Migration
from runner.store.search import SearchQuery, search_runs
from tests.conftest import ROOT, RunProj

# What the first version had in its tables; its own code is no longer there to write it.
ROWS = (
    "INSERT INTO experiments (id, name, created_at, updated_at) VALUES (1, 'old', 1, 1)",
    "INSERT INTO experiment_tags VALUES (1, 'kind', 'test')",
    (
        "INSERT INTO runs (id, run_id, experiment, name, user, status, started_at, ended_at, artifact_uri)"
        " VALUES (1, '0123456789abcdef0123456789abcdef', 1, 'first', 'me', 'FINISHED', 5, 6, 'file:///old')"
    ),
    "INSERT INTO params (run, key, value) VALUES (1, 'alpha', '0.5')",
    "INSERT INTO tags VALUES (1, 'mlflow.runName', 'first')",
    "INSERT INTO metrics VALUES (1, 'loss', 0.25, 7, 3)",
    "INSERT INTO points VALUES (1, 'loss', 3, 7, 0.25, 0)",
)
RUN = "0123456789abcdef0123456789abcdef"


def make_old(path: Path, count: int) -> None:
    """Create a store with the first ``count`` migrations."""
    with closing(Database.open(path, MIGRATIONS[:count])) as db:
        for row in ROWS:
            db.execute(row)


def check_content(db: Database) -> None:
    run = runs.get(db, RUN)
    assert (run.name, run.params, run.metrics["loss"].value) == ("first", {"alpha": "0.5"}, 0.25)
    assert [point.step for point in values.metric_history(db, RUN, "loss").items] == [3]
    assert [one.run_id for one in search_runs(db, SearchQuery(filter="metrics.loss < 1")).items] == [RUN]
    assert db.query("PRAGMA integrity_check")[0][0] == "ok"
    assert not db.query("PRAGMA foreign_key_check")


def schema(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as store:
        return {sql for (sql,) in store.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}


@pytest.mark.parametrize("count", range(1, len(MIGRATIONS)))
def test_every_older_store_is_upgraded_with_all_that_is_in_it(tmp_path: Path, count: int) -> None:
    path, new = tmp_path / "proj.db", tmp_path / "new.db"
    make_old(path, count)
    old = schema(path)
    with closing(Database.open(path)) as db:
        check_content(db)
        run_id = runs.create(db, NewRun(experiment_id="1")).run_id
        values.log_metrics(db, run_id, [Metric(key="loss", value=2, timestamp=1)])
        assert len(search_runs(db, SearchQuery()).items) == 2
    Database.open(new).close()
    assert schema(path) == schema(new)
    (backup,) = tmp_path.glob("*.backup")
    assert schema(backup) == old
    with closing(Database.open(backup, MIGRATIONS[:count])) as db:
        assert db.query("SELECT run_id FROM runs")[0][0] == RUN


def test_the_backup_is_a_store_again(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    make_old(path, 1)
    Database.open(path).close()
    (backup,) = tmp_path.glob("*.backup")
    shutil.copy(backup, tmp_path / "restored.db")
    with closing(Database.open(tmp_path / "restored.db")) as db:
        check_content(db)


def test_commands_upgrade_an_older_store_and_refuse_a_newer_one(tmp_path: Path, proj: RunProj) -> None:
    path = tmp_path / "home" / "proj.db"
    path.parent.mkdir()
    make_old(path, 1)
    listed = proj("list", "--json", PROJ_HOME=str(path.parent))
    assert [row["run_id"] for row in listed.json] == [RUN]
    with closing(Database.open(path, (*MIGRATIONS, Migration(name="9999 later", statements=(), breaks_readers=True)))):
        pass
    before = path.read_bytes()
    for words in (("list",), ("show", RUN), ("server", "--port", "0")):
        refused = proj(*words, PROJ_HOME=str(path.parent))
        assert refused.code == 1
        assert "newer proj" in refused.err
        assert "Upgrade proj" in refused.err
        assert "Traceback" not in refused.err
    assert path.read_bytes() == before


LATER = (
    *MIGRATIONS,
    Migration(
        name="9000 slow",
        statements=(
            "CREATE TABLE numbers (n)",
            (
                "INSERT INTO numbers WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c LIMIT 300000)"
                " SELECT n FROM c"
            ),
        ),
    ),
    Migration(name="9001 last", statements=("ALTER TABLE runs ADD COLUMN later TEXT DEFAULT 'x'",)),
)

UPGRADE = """
import sys
from pathlib import Path
from runner.store.database import Database
from tests.store.test_migrations import LATER
print("begins", flush=True)
Database.open(Path(sys.argv[1]), LATER).close()
print("ended", flush=True)
"""


@pytest.mark.slow
def test_an_upgrade_that_is_killed_has_happened_or_not(tmp_path: Path) -> None:
    make_old(tmp_path / "old.db", 1)
    old, halves = schema(tmp_path / "old.db"), 0
    for number in range(16):
        path = tmp_path / str(number) / "proj.db"
        path.parent.mkdir()
        shutil.copy(tmp_path / "old.db", path)
        ended = kill_upgrade(path, random.Random(number).uniform(0, 0.25))
        found = schema(path)
        assert found == old or "numbers" in json.dumps(sorted(found))
        assert not ended or found != old
        halves += found == old
        with closing(Database.open(path, LATER)) as db:
            check_content(db)
            assert db.query("SELECT count(*) FROM numbers")[0][0] == 300_000
            assert db.query("SELECT later FROM runs")[0][0] == "x"
        (backup,) = path.parent.glob("*.backup")
        assert schema(backup) == old
        assert not list(path.parent.glob("*.partial*"))
    assert halves


def kill_upgrade(path: Path, seconds: float) -> bool:
    """Kill an upgrade after some seconds; return whether it had reported its end."""
    words = [sys.executable, "-c", UPGRADE, str(path)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        return "ended" in process.stdout.read()


def test_several_processes_upgrade_once(tmp_path: Path) -> None:
    path = tmp_path / "proj.db"
    make_old(path, 1)
    words = [sys.executable, "-c", UPGRADE, str(path)]
    processes = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["begins\nended\n"] * 4
    with closing(Database.open(path, LATER)) as db:
        check_content(db)
        assert db.query("SELECT count(*) FROM migrations")[0][0] == len(LATER)
    (backup,) = tmp_path.glob("*.backup")
    assert len(schema(backup)) < len(schema(path))
