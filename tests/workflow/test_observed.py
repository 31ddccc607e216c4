"""What a run was seen to open: role, digest, way, completeness, and lines about undeclared influence."""

import hashlib
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import observed_inputs
from runner.model import RunRequest
from runner.settings import Home
from runner.workflow import run_project
from tests.conftest import MakeRepository, Result, RunProj, write_tree

SCRIPT = """
import os, sqlite3, subprocess, sys
import helper

open("tree.txt").read()
open("data/a.csv").read()
open(sys.argv[1]).read()
open("made.txt", "w").write("x")
open("made.txt").read()
open(sys.argv[3], "w").write("x")
sqlite3.connect(sys.argv[2]).execute("select 1")
subprocess.run([sys.executable, "-c", "open('child.txt')"], check=True)
subprocess.run(["true"], check=True)
assert not any("trace_hook" in entry for entry in sys.path)
"""


def manifest(command: str, keys: str = "") -> str:
    return f"entry_points:\n  main:\n{keys}    command: {json.dumps(command)}\n"


def run(proj: RunProj, folder: Path, *words: str) -> Result:
    done = proj("run", ".", "--json", "--env-manager", "local", *words, cwd=folder)
    assert done.code == 0, done.err
    return done


def by_path(result: Result) -> dict[str, dict[str, Any]]:
    return {one["path"]: one for one in result.json["observed"]["inputs"]}


def sha(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


@pytest.fixture
def project(make_repository: MakeRepository, tmp_path: Path) -> Path:
    write_tree(tmp_path, {"far/b.csv": "2"})
    with sqlite3.connect(tmp_path / "far/c.db") as database:
        database.execute("create table t (a)")
    far = tmp_path / "far"
    command = f"python train.py {far}/b.csv {far}/c.db {far}/written.csv"
    files = {"MLproject": manifest(command), "train.py": SCRIPT, "helper.py": "", "tree.txt": "1", "child.txt": "1"}
    root = make_repository({**files, ".gitignore": "data\n"})
    return write_tree(root, {"data/a.csv": "3", "data/unread.csv": "4"})


def test_inputs_have_roles_and_digests(proj: RunProj, project: Path, tmp_path: Path) -> None:
    done = run(proj, project)
    found = by_path(done)
    far = tmp_path / "far"
    roles = {path: one["role"] for path, one in found.items()}
    assert roles == {
        **dict.fromkeys(("child.txt", "helper.py", "train.py", "tree.txt"), "project file"),
        "data/a.csv": "linked data",
        f"{far}/b.csv": "outside file",
        f"{far}/c.db": "database",
    }
    digests = {path: one.get("sha256") for path, one in found.items()}
    assert digests[f"{far}/b.csv"] == sha("2")
    assert digests["data/a.csv"] == sha("3")
    assert digests[f"{far}/c.db"] == sha((far / "c.db").read_bytes())
    assert digests["tree.txt"] is None  # the tree has it
    assert "python" in found["tree.txt"]["seen"]
    observed = done.json["observed"]
    assert observed["method"] == "hook"
    assert observed["inputs_complete"] is False
    assert observed["reasons"] == ["1 program ran without the hook: true"]
    assert f"opened '{far}/b.csv', '{far}/c.db', outside the project and not declared" in done.err
    assert f"write: inputs: [{far}/b.csv, {far}/c.db]" in done.err
    shown = proj("show", "latest", cwd=project).out
    assert f"outside file  {far}/b.csv  1 B  sha256 {sha('2')[:12]}" in shown
    assert "project file  4 files" in shown
    assert not list(Path(done.json["log"]).parent.glob("opened*"))


def test_nothing_is_observed_without_trace(proj: RunProj, project: Path) -> None:
    done = run(proj, project, "--no-trace")
    assert done.json["observed"] is None
    assert "outside the project" not in done.err
    assert [one["path"] for one in done.json["inputs"]] == ["data/a.csv"]


@pytest.mark.slow
def test_an_input_that_the_run_changes_or_removes_has_no_digest(proj: RunProj, make_repository: MakeRepository) -> None:
    script = "import os, sys\n[open(name).read() for name in sys.argv[1:]]\n"
    script += "open(sys.argv[1], 'a').write('x')\nos.remove(sys.argv[2])\n"
    root = make_repository({"t.py": script})
    far = write_tree(root.parent / "far", {"a.csv": "1", "b.csv": "2"})
    done = run(proj, root, "--", "python", "t.py", f"{far}/a.csv", f"{far}/b.csv")
    found = by_path(done)
    assert found[f"{far}/a.csv"]["state"] == "changed during the run"
    assert found[f"{far}/b.csv"]["state"] == "removed during the run"
    assert not {"sha256"} & (found[f"{far}/a.csv"].keys() | found[f"{far}/b.csv"].keys())


@pytest.mark.slow
def test_a_home_behind_a_link_and_a_run_in_place(proj: RunProj, project: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to("real")
    expected = {
        "child.txt",
        "helper.py",
        "train.py",
        "tree.txt",
        "data/a.csv",
        *map(str, (tmp_path / "far").glob("[bc]*")),
    }
    for words in ((), ("--in-place",)):
        command = [
            "bash",
            "-c",
            "echo 1 > m.txt; python -c \"open('m.txt')\"; $(grep -o 'python train.*db' MLproject) x",
        ]
        done = proj(
            "run",
            ".",
            "--json",
            "--env-manager",
            "local",
            *words,
            "--",
            *command,
            cwd=project,
            PROJ_HOME=f"{tmp_path}/home",
        )
        assert done.code == 0, done.err
        assert by_path(done).keys() == expected


@pytest.mark.slow
def test_a_secret_path_is_not_observed(proj: RunProj, make_repository: MakeRepository) -> None:
    keys = "    parameters: {key: {type: path, secret: true}}\n"
    root = make_repository(
        {"MLproject": manifest("python t.py {key}", keys), "t.py": "import sys; open(sys.argv[1])\n"}
    )
    far = write_tree(root.parent / "far", {"private-name.pem": "1"})
    done = run(proj, root, "-P", f"key={far}/private-name.pem")
    assert "private-name" not in json.dumps(done.json)
    assert "private-name" not in proj("show", "latest", "--all", cwd=root).out


@pytest.mark.slow
def test_a_long_list_is_cut_and_says_so(
    project: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed_inputs, "MOST_LISTED", 3)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    request = RunRequest(uri=str(project), environment_manager="local")
    observed = run_project(request, home, lambda _event: None).record.observed
    assert observed is not None
    assert [one.path for one in observed.inputs] == [f"{tmp_path}/far/b.csv", f"{tmp_path}/far/c.db", "data/a.csv"]
    assert observed.reasons[-1] == "4 more inputs were seen than are listed"


INFLUENCES = {
    "import random\nprint(random.random())\n": "Random numbers of random were used without a seed",
    "import random\nrandom.seed(1)\nprint(random.random())\n": None,
    "import random\nprint(random.Random(1).random())\n": None,
    "import time\nopen('o.txt', 'w').write(time.strftime('%F %T'))\n": "The outputs contain the time of the run",
    "open('o.txt', 'w').write('2001-01-01 10:00:00')\n": None,
    "import socket\ns = socket.socket()\ns.settimeout(0)\ns.connect_ex(('192.0.2.1', 9))\n": (
        "The command connected to '192.0.2.1:9'"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", INFLUENCES)
def test_undeclared_influence_is_reported(proj: RunProj, make_repository: MakeRepository, script: str) -> None:
    root = make_repository({"MLproject": manifest("python t.py"), "t.py": script})
    done = run(proj, root)
    expected = INFLUENCES[script]
    notices = [
        one for one in done.json["notices"] if one.startswith(("Random", "The outputs contain", "The command con"))
    ]
    assert [one for one in notices if expected and expected in one] == notices
    assert bool(notices) == (expected is not None)
