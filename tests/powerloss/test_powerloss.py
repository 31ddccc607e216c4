"""`proj run` on a disk that loses power: what was reported stays, or is named as lost; nothing is silently wrong.

``PROJ_POWER_LOSSES=200 pytest tests/powerloss`` tries as many moments; 12 without it.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Result, git, start_proj, unavailable, write_tree
from tests.powerloss.replay import Change, lay_out, read_log

TIMES = int(os.environ.get("PROJ_POWER_LOSSES", "12"))
SEED = os.environ.get("PROJ_POWER_SEED", "1")

SCRIPT = """
import os, pathlib, sys
alpha = float(sys.argv[1])
with open(os.environ["PROJ_METRICS"], "a") as file:
    for step in range(50):
        print(f"loss={alpha / (step + 1)}", file=file)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model.bin").write_bytes(f"model of {alpha}".encode() * 5000)
pathlib.Path("out/note.txt").write_text(pathlib.Path("data.txt").read_text())
"""
PROJECT = {
    "MLproject": "name: p\nentry_points:\n  main:\n    parameters:\n      alpha: float\n"
    '    command: "python train.py {alpha}"\n',
    "train.py": SCRIPT,
    "data.txt": "first\n",
    "lib/__init__.py": "",
    ".gitignore": "out/\n",
}
ALPHAS = (0.5, 1.5, 2.5, 3.5)


class Reported:
    """A run that was reported as finished, and what it must say for ever."""

    def __init__(self, run_id: str, alpha: float, data: str, tree: str) -> None:
        self.run_id = run_id
        self.loss = alpha / 50
        self.files = {"out/model.bin": f"model of {alpha}".encode() * 5000, "out/note.txt": data.encode()}
        self.data = data
        self.tree = tree


@contextmanager
def recorded(folder: Path, mountpoint: Path, log: Path) -> Iterator[None]:
    """Mount the file system that writes every change down."""
    words = [sys.executable, "-m", "tests.powerloss.recorder", folder, mountpoint, log]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not mountpoint.is_mount():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
    finally:
        subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=False)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def run_proj(*words: str, cwd: Path, home: Path) -> Result:
    process = start_proj(*words, cwd=cwd, PROJ_HOME=str(home))
    out, err = process.communicate(timeout=180)
    return Result(process.returncode, out, err)


def run_project(project: Path, home: Path, alpha: float) -> Result:
    return run_proj("run", ".", "--env-manager", "local", "-P", f"alpha={alpha}", "--json", cwd=project, home=home)


class Stage:
    """A home on a recorded disk, the runs that were reported, and the moments at which they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "disk" / "home"
        self.project = write_tree(folder / "project", PROJECT)
        git(self.project, "init", "--quiet", "--initial-branch=main")
        git(self.project, "add", "--all")
        git(self.project, "commit", "--quiet", "--message=first")
        self.reported: list[tuple[int, Reported]] = []
        self.changes: list[Change] = []
        log = folder / "log"
        (folder / "backing").mkdir()
        (folder / "disk").mkdir()
        with recorded(folder / "backing", folder / "disk", log):
            for number, alpha in enumerate(ALPHAS):
                if number:
                    (self.project / "data.txt").write_text(f"changed {number}\n")
                done = run_project(self.project, self.home, alpha)
                assert done.code == 0, done.err
                data = (self.project / "data.txt").read_text()
                reported = Reported(done.json["run_id"], alpha, data, done.json["code"]["tree"])
                self.reported.append((len(read_log(log)), reported))
        self.changes = read_log(log)

    def after(self, moment: int, chance: random.Random) -> list[Reported]:
        """Let power go at a moment; return the runs that had been reported by then."""
        disk = self.folder / "disk"
        shutil.rmtree(disk)
        disk.mkdir()
        lay_out(self.changes[:moment], chance, disk)
        return [reported for when, reported in self.reported if when <= moment]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if not Path("/dev/fuse").exists() or shutil.which("fusermount3") is None:
        raise unavailable("this system has no FUSE")
    pytest.importorskip("mfusepy", exc_type=(ImportError, OSError))
    # The room of each test has its own settings of git; this one is made before any.
    os.environ.setdefault("GIT_CONFIG_NOSYSTEM", "1")
    return Stage(tmp_path_factory.mktemp("powerloss"))


def moments() -> list[int]:
    chance = random.Random(SEED)
    return [chance.randrange(1 << 30) for _ in range(TIMES)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", moments())
def test_a_power_loss_leaves_nothing_silently_wrong(stage: Stage, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    reported = stage.after(chance.randint(1, len(stage.changes)), chance)
    listed = run_proj("list", "--json", cwd=tmp_path, home=stage.home)
    assert listed.code == 0, listed.err
    found = {record["run_id"]: record for record in json.loads(listed.out)}
    for number, one in enumerate(reported):
        check(one, found.get(one.run_id), stage.home, tmp_path / str(number), listed.err)
    again = run_project(stage.project, stage.home, 9.0)
    assert again.code == 0, again.err
    assert again.json["metrics"] == {"loss": 9.0 / 50}
    got = run_proj("get", again.json["run_id"], "--to", str(tmp_path / "again"), cwd=tmp_path, home=stage.home)
    assert got.code == 0, got.err
    assert (tmp_path / "again" / "out" / "model.bin").read_bytes() == b"model of 9.0" * 5000


def check(one: Reported, record: Any, home: Path, workdir: Path, printed: str) -> None:
    """A run that was reported is whole, or what of it is not is named."""
    workdir.mkdir()
    if record is None:
        raise AssertionError(f"the run {one.run_id} is gone, and nothing says so: {printed}")
    shown = run_proj("show", one.run_id, "--json", cwd=workdir, home=home)
    assert shown.code == 0, shown.err
    if record["status"] != "FINISHED":
        assert record["status"] == "LOST"
        return
    assert (shown.json["exit_code"], shown.json["metrics"]) == (0, {"loss": one.loss})
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in one.files.items()}
    assert {output["path"]: output["sha256"] for output in shown.json["outputs"]} == digests
    got = run_proj("get", one.run_id, "--to", str(workdir / "got"), cwd=workdir, home=home)
    for name, content in one.files.items():
        place = workdir / "got" / name
        is_right = place.is_file() and place.read_bytes() == content
        assert is_right or (got.code != 0 and name in got.err), f"{name} is wrong, and nothing says so: {got.err}"
    back = run_proj("checkout", one.run_id, str(workdir / "code"), cwd=workdir, home=home)
    assert back.code != 0 or (workdir / "code" / "data.txt").read_text() == one.data, back.err
