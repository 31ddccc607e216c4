"""A day with proj, from a new project to a rerun in another home, with what the user sees at each step."""

import csv
import io
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Result, RunProj, git, start_proj
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = [pytest.mark.slow, pytest.mark.env, pytest.mark.timeout(900)]

MANIFEST = """\
name: churn
python_env: python_env.yaml
metric: {name: log_loss, goal: min}
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5, min: 0}
      epochs: {type: int, default: 5}
    inputs: [data/train.csv]
    outputs: [model]
    command: python train.py --alpha {alpha} --epochs {epochs}
"""
# It continues from its output, and waits for an interrupt at the epoch that a variable names.
SCRIPT = """\
import argparse, json, os, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
parser.add_argument("--epochs", type=int)
options = parser.parse_args()
rows = pathlib.Path("data/train.csv").read_text().splitlines()
model = pathlib.Path("model")
model.mkdir(exist_ok=True)
state = model / "state.json"
done = json.loads(state.read_text())["epoch"] if state.exists() else 0
print(f"from epoch {done} with {len(rows)} rows", flush=True)
for epoch in range(done + 1, options.epochs + 1):
    loss = (options.alpha - 0.3) ** 2 + 1 / epoch
    with open(os.environ["PROJ_METRICS"], "a") as file:
        file.write(json.dumps({"name": "log_loss", "value": loss, "step": epoch}) + "\\n")
    state.write_text(json.dumps({"epoch": epoch}))
    if os.environ.get("WAIT_AT") == str(epoch):
        print("waiting", flush=True)
        time.sleep(600)
"""


class Day:
    """The user's folder and home, and commands that must succeed."""

    def __init__(self, proj: RunProj, root: Path, **variables: str) -> None:
        self.root = root
        self._proj = proj
        self._variables = variables

    def run(self, *words: str, code: int = 0) -> Result:
        done = self._proj(*words, cwd=self.root, **self._variables)
        assert done.code == code, f"{words}\n{done.out}\n{done.err}"
        return done

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with standalone_server(tmp_path, PROJ_HOME=str(tmp_path / "server")) as running:
        yield running


def test_a_day(proj: RunProj, tmp_path: Path, server: RunningServer) -> None:
    day = start_project(proj, tmp_path)
    ids = edit_and_run(day)
    add_a_package(day)
    look(day, ids)
    interrupt_and_resume(day)
    change(day, ids)
    move(proj, day, ids[3], server, tmp_path)


def start_project(proj: RunProj, tmp_path: Path) -> Day:
    made = Day(proj, tmp_path).run("new", "churn", "--template", "minimal", "--defaults")
    assert "proj run ." in made.err
    day = Day(proj, tmp_path / "churn")
    first = day.run("run", ".")
    assert "FINISHED" in first.err
    assert "next: proj show " in first.err
    (day.root / "MLproject").write_text(MANIFEST, encoding="utf-8")
    (day.root / "train.py").write_text(SCRIPT, encoding="utf-8")
    (day.root / "python_env.yaml").write_text("dependencies: []\n", encoding="utf-8")
    (day.root / ".gitignore").write_text("data/\n__pycache__/\n", encoding="utf-8")
    for lock in day.root.glob("*.lock"):
        lock.unlink()
    missing = day.run("run", ".", code=1)
    assert "'data/train.csv', which does not exist" in missing.err
    (day.root / "data").mkdir()
    (day.root / "data" / "train.csv").write_text("x\n" * 100, encoding="utf-8")
    git(day.root, "add", "--all")
    git(day.root, "commit", "--quiet", "--message=churn")
    return day


def edit_and_run(day: Day) -> list[str]:
    """Run ten times, each time with another parameter, every second time with an edit that is not committed."""
    ids = []
    for number in range(10):
        if number % 2:
            day.edit("train.py", "import argparse", f"# edit {number}\nimport argparse")
        done = day.run("run", ".", "-P", f"alpha={number / 10}", "--json")
        record = done.json
        assert record["status"] == "FINISHED"
        assert record["code"]["dirty"] is (number > 0)
        assert [one["path"] for one in record["inputs"]] == ["data/train.csv"]
        ids.append(str(record["run_id"]))
    return ids


def add_a_package(day: Day) -> None:
    day.edit("train.py", "import argparse", "import iniconfig, argparse")
    assert "iniconfig" in day.run("run", ".", code=1).err
    added = day.run("add", "iniconfig")
    assert "iniconfig" in (day.root / "python_env.yaml").read_text(encoding="utf-8")
    assert "iniconfig" in added.out + added.err
    assert day.run("run", ".", "-P", "alpha=0.3", "--json").json["status"] == "FINISHED"


def look(day: Day, ids: list[str]) -> None:
    listed = day.run("list", "--filter", "metrics.log_loss < 10", "--order-by", "metrics.log_loss ASC").out
    best = next(line for line in listed.splitlines() if "▼" in line)
    assert {"log_loss", "alpha"} <= set(listed.splitlines()[1].split())
    assert "0.3" in best.split()
    assert "did you mean metrics.log_loss?" in day.run("list", "--order-by", "metrics.logloss").err
    rows = list(csv.DictReader(io.StringIO(day.run("list", "--csv", "-n", "100").out)))
    assert {row["params.alpha"] for row in rows if row["run"] in ids} == {f"{number / 10}" for number in range(10)}
    compared = day.run("compare", ids[0], ids[9]).out
    assert "alpha" in compared
    assert "0.9" in compared
    assert "train.py" in day.run("compare", ids[0], ids[1], "--code").out
    assert "log_loss" in day.run("plot", "log_loss", ids[3], ids[9]).out
    report = day.root.parent / "report.html"
    day.run("report", *ids, "-o", str(report))
    assert "log_loss" in report.read_text(encoding="utf-8")


def interrupt_and_resume(day: Day) -> None:
    """Interrupt a run with Ctrl-C at its third epoch, and continue it."""
    process = start_proj("run", ".", "-P", "alpha=0.3", cwd=day.root, WAIT_AT="3")
    assert process.stdout
    assert any("waiting" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "KILLED" in err
    interrupted = next(line for line in err.splitlines() if "continue: proj run --resume " in line).split()[-1]
    resumed = day.run("run", "--resume", interrupted, "--json")
    assert resumed.json["status"] == "FINISHED"
    assert "from epoch 3 with 100 rows" in resumed.err


def change(day: Day, ids: list[str]) -> None:
    day.run("tag", ids[3], "best", "stage=candidate")
    day.run("note", ids[3], "alpha is right")
    day.run("rename", ids[3], "champion")
    shown = day.run("show", "champion").out
    assert "candidate" in shown
    assert "alpha is right" in shown
    removed = day.run("rm", "--filter", "params.alpha = '0.9'", "-y")
    assert "1 run moved to the trash" in removed.err
    refused = day.run("show", ids[9][:8], code=1)
    assert "It is in the trash" in refused.err
    assert "1 run restored" in day.run("restore", ids[9]).err
    assert day.run("show", ids[9][:8]).out


def move(proj: RunProj, day: Day, run_id: str, server: RunningServer, tmp_path: Path) -> None:
    """Send a run with its code to a server, and run it again in another home, without the project."""
    day.run("push", run_id, "--to", server.url)
    folder = tmp_path / "elsewhere"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.csv").write_text("x\n" * 100, encoding="utf-8")
    other = Day(proj, folder, PROJ_HOME=str(tmp_path / "other home"))
    pushed = json.loads(other.run("list", "--tracking-uri", server.url, "--json", "--all").out)
    other.run("pull", pushed[0]["run_id"], "--from", server.url)
    pulled = json.loads(other.run("list", "--json", "--all").out)
    assert [one["metrics"]["log_loss"] for one in pulled] == [pytest.approx(1 / 5)]
    data = f"data/train.csv={folder / 'data' / 'train.csv'}"
    verdict = other.run("reproduce", pulled[0]["run_id"], "--input", data)
    assert "identical" in verdict.out + verdict.err
    other.run("checkout", pulled[0]["run_id"], "code")
    shutil.copytree(folder / "data", folder / "code" / "data")
    again = other.run("run", "code", "-P", "alpha=0.5", "--json")
    assert again.json["metrics"]["log_loss"] == pytest.approx(0.04 + 1 / 5)
    assert again.json["code"]["tree"] == pulled[0]["code"]["tree"]
