"""Tests concurrent writers in many processes, some of which are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.search import SearchQuery, search_runs

WRITER = """
import sys
from contextlib import closing
from pathlib import Path
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun

with closing(Database.open(Path(sys.argv[1]))) as db:
    run_id = runs.create(db, NewRun(name=sys.argv[2])).run_id
    print(run_id, flush=True)
    for step in range(int(sys.argv[3])):
        values.log_metrics(db, run_id, [Metric(key="m", value=step, timestamp=step, step=step)])
        if step % 10 == 0:
            values.log_params(db, run_id, [(f"p{step}", str(step))])
            values.set_tags(db, run_id, {"at": str(step)})
        print(step, flush=True)
"""


def start_writer(store: Path, name: str, steps: int) -> "subprocess.Popen[bytes]":
    """Start a writer; its output goes to a file beside the store."""
    with said_by(store, name).open("wb") as out:
        words = [sys.executable, "-c", WRITER, str(store), name, str(steps)]
        return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)


def said_by(store: Path, name: str) -> Path:
    return store.with_name(f"{name}.txt")


@pytest.mark.slow
def test_eight_processes_log_at_once_while_a_reader_lists(tmp_path: Path) -> None:
    """Probe 32: nothing is lost and nobody sees a locked database."""
    store, steps = tmp_path / "proj.db", 200
    with closing(Database.open(store)) as db:
        writers = [start_writer(store, f"w{number}", steps) for number in range(8)]
        looks = 0
        while any(writer.poll() is None for writer in writers):
            page = search_runs(db, SearchQuery(filter="metrics.m >= 0", order_by=("metrics.m DESC",), limit=5))
            assert len(page.items) <= 5
            looks += 1
            time.sleep(0.02)
        for number, writer in enumerate(writers):
            printed = said_by(store, f"w{number}").read_text()
            assert writer.returncode == 0, printed
            run_id = printed.split()[0]
            run = runs.get(db, run_id)
            assert run.name == f"w{number}"
            assert run.metrics["m"].value == steps - 1
            assert run.params == {f"p{step}": str(step) for step in range(0, steps, 10)}
            history = values.metric_history(db, run_id, "m").items
            assert [point.step for point in history] == list(range(steps))
        assert looks > 1


def kill_at_random(store: Path, seed: int) -> tuple[str, int]:
    """Kill a writer at a random point; return its run and the last step reported as committed."""
    writer = start_writer(store, f"seed {seed}", 100_000)
    printed = said_by(store, f"seed {seed}")
    while writer.poll() is None and b"\n" not in printed.read_bytes():
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0, 0.1))
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(60) == -signal.SIGKILL, printed.read_text()
    run_id, *lines = printed.read_text().splitlines(keepends=True)
    steps = [int(line) for line in lines if line.endswith("\n")]
    return run_id.strip(), steps[-1] if steps else -1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("STORE_KILLS", "8"))))
def test_acknowledged_writes_survive_a_kill(tmp_path: Path, seed: int) -> None:
    store = tmp_path / "proj.db"
    with closing(Database.open(store)) as db:
        bystander = runs.create(db, NewRun()).run_id
        run_id, last = kill_at_random(store, seed)
        values.log_metrics(db, bystander, [Metric(key="m", value=1, timestamp=0)])
        count = db.query("SELECT count(*) FROM points p JOIN runs r ON r.id = p.run WHERE r.run_id = ?", run_id)[0][0]
        assert count in (last + 1, last + 2)
        if last >= 0:
            assert runs.get(db, run_id).metrics["m"].step >= last
        assert db.query("PRAGMA integrity_check")[0][0] == "ok"
        assert not db.query("PRAGMA foreign_key_check")
