"""Runs that go on can't be removed, and lose nothing by the attempt."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from tests.conftest import MakeRepository, RunProj, start_proj

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, pathlib, time, urllib.request
def report_end():
    body = json.dumps({"run_id": os.environ["MLFLOW_RUN_ID"], "status": "FINISHED", "end_time": 1}).encode()
    headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}
    address = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/update"
    urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30).read()
REPORT
pathlib.Path("out.txt").write_text("made")
pathlib.Path(os.environ["READY"]).touch()
while not os.path.exists(os.environ["GO"]): time.sleep(0.02)
"""


@pytest.mark.parametrize(("words", "reports"), [(["ID"], False), (["ID"], True), (["--older-than", "0h"], True)])
def test_a_run_that_goes_on_is_not_removed(
    make_repository: MakeRepository, home: Home, tmp_path: Path, proj: RunProj, words: list[str], reports: bool
) -> None:
    """Also a run whose script has already reported its end goes on until its command ends."""
    script = SCRIPT.replace("REPORT", "report_end()" if reports else "")
    root = make_repository({
        "MLproject": "name: x\nentry_points:\n  main:\n    command: python long.py\n",
        "long.py": script,
    })  # fmt: skip
    ready, go = tmp_path / "ready", tmp_path / "go"
    process = start_proj("run", ".", "--env-manager", "local", cwd=root, READY=str(ready), GO=str(go))
    try:
        while not ready.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        with closing(Database.open(home.database)) as database:
            (row,) = database.query("SELECT run_id FROM runs")
        run_id = row["run_id"]
        done = proj("rm", *(run_id if word == "ID" else word for word in words), "--yes", cwd=root)
        assert done.code == (1 if "ID" in words else 0), done
        assert ("RUNNING" if "ID" in words else "no runs match") in done.err
        go.touch()
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 0, printed
    finally:
        process.kill()
        process.wait()
    with closing(Database.open(home.database)) as database:
        assert runs.get(database, run_id).status.value == "FINISHED"
    assert (home.artifacts(run_id) / "out.txt").read_text() == "made"
    assert proj("rm", run_id, "--yes", "--permanently", cwd=root).code == 0
    assert not home.run(run_id).exists()
