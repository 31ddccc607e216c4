"""The code of a run travels with it: to `proj server` and from there to another home, and as a git bundle to others."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.code_bundle import take_code, write_code
from runner.source.snapshot_store import has_run_commit, read_run_commit
from runner.store import values
from runner.store.database import Database
from tests.conftest import MakeRepository, RunProj
from tests.support.standalone_server import RunningServer, standalone_server

MANIFEST = """\
name: traveller
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
    command: python train.py {alpha}
"""
SCRIPT = """\
import os, sys
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f"score={sys.argv[1]}\\n")
"""


@pytest.fixture
def root(make_repository: MakeRepository) -> Path:
    root = make_repository({"MLproject": MANIFEST, "train.py": "print('committed')\n", "bin": b"\0\1" * 5000})
    (root / "train.py").write_text(SCRIPT)
    return root


@pytest.fixture
def run_id(proj: RunProj, root: Path) -> str:
    done = proj("run", ".", "--env-manager", "local", "--json", cwd=root)
    assert done.code == 0, done.err
    return str(done.json["run_id"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with standalone_server(tmp_path, PROJ_HOME=str(tmp_path / "server")) as running:
        yield running


def test_a_run_moves_to_another_home_with_its_code_and_runs_again_there(
    proj: RunProj, root: Path, run_id: str, server: RunningServer, tmp_path: Path
) -> None:
    pushed = proj("push", "--filter", "metrics.score < 1", "--to", server.url, cwd=root)
    assert pushed.code == 0, pushed.err
    assert "nothing new" in proj("push", run_id, "--to", server.url, cwd=root).err
    diff = proj("diff", run_id).out
    shutil.rmtree(root)
    there = {"PROJ_HOME": str(tmp_path / "there")}
    pulled = proj("pull", "--filter", "metrics.score < 1", "--all", "--from", server.url, **there)
    assert pulled.code == 0, pulled.err
    assert [one["run_id"] for one in proj("list", "--all", "--json", **there).json] == [run_id]
    assert proj("diff", run_id, **there).out == diff
    assert proj("checkout", run_id, str(tmp_path / "code"), **there).code == 0
    assert (tmp_path / "code" / "train.py").read_text() == SCRIPT
    again = proj("rerun", run_id, "-P", "alpha=0.25", "--json", **there)
    assert again.code == 0, again.err
    assert again.json["metrics"] == {"score": 0.25}
    assert again.json["code"]["tree"] == proj("show", run_id, "--json").json["code"]["tree"]
    assert proj("verify", **there).code == 0


@pytest.mark.parametrize(("words", "is_sent"), [((), True), (("--no-code",), False), (("--code",), True)])
def test_code_is_sent_to_proj_by_default(
    proj: RunProj, run_id: str, server: RunningServer, tmp_path: Path, words: tuple[str, ...], is_sent: bool
) -> None:
    assert proj("push", run_id, "--to", server.url, *words).code == 0
    assert bool(list((tmp_path / "server").rglob("code.bundle"))) is is_sent
    there = {"PROJ_HOME": str(tmp_path / "there")}
    assert proj("pull", run_id, "--from", server.url, **there).code == 0
    assert (proj("checkout", run_id, str(tmp_path / "code"), **there).code == 0) is is_sent
    if not is_sent:
        assert proj("push", run_id, "--to", server.url, "--code").code == 0
        assert proj("pull", run_id, "--from", server.url, **there).code == 0
        assert proj("checkout", run_id, str(tmp_path / "code"), **there).code == 0


def test_the_bundle_is_one_that_git_reads(home: Home, run_id: str, tmp_path: Path) -> None:
    write_code(run_id, home, tmp_path / "code.bundle")
    subprocess.run(["git", "init", "--quiet", "clone"], cwd=tmp_path, check=True)
    words = ("fetch", "--quiet", str(tmp_path / "code.bundle"), f"refs/runs/{run_id}")
    subprocess.run(["git", *words], cwd=tmp_path / "clone", check=True)
    subprocess.run(["git", "checkout", "--quiet", "FETCH_HEAD"], cwd=tmp_path / "clone", check=True)
    assert (tmp_path / "clone" / "train.py").read_text() == SCRIPT


@pytest.mark.parametrize("harm", ["cut", "flipped", "no bundle", "other tree", "other run"])
def test_a_damaged_bundle_is_refused_and_leaves_nothing(home: Home, run_id: str, tmp_path: Path, harm: str) -> None:
    bundle = tmp_path / "code.bundle"
    write_code(run_id, home, bundle)
    tree, wanted = read_run_commit(home, run_id).tree, run_id
    content = bytearray(bundle.read_bytes())
    if harm == "cut":
        bundle.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[-40] ^= 1
        bundle.write_bytes(content)
    elif harm == "no bundle":
        bundle.write_bytes(b"PK\3\4")
    elif harm == "other tree":
        tree = "1" * 40
    else:
        wanted = "ab" * 16
    other = Home(tmp_path / "other")
    other.ensure()
    with pytest.raises(SnapshotError):
        take_code(bundle, wanted, tree, other)
    assert not has_run_commit(other, wanted)
    assert not list(other.root.glob("proj-*"))


def test_a_bundle_names_no_folder_of_this_machine(home: Home, run_id: str, tmp_path: Path) -> None:
    bundle = tmp_path / "code.bundle"
    write_code(run_id, home, bundle)
    other = Home(tmp_path / "other")
    other.ensure()
    take_code(bundle, run_id, read_run_commit(home, run_id).tree, other)
    kept = read_run_commit(other, run_id)
    assert (kept.tree, kept.base) == (read_run_commit(home, run_id).tree, read_run_commit(home, run_id).base)
    assert json.loads(kept.message.partition("\n\n")[2])["root"] is None


def test_a_damaged_bundle_on_the_server_costs_only_the_code(
    proj: RunProj, home: Home, run_id: str, server: RunningServer, tmp_path: Path
) -> None:
    with closing(Database.open(home.database)) as database:
        values.set_tags(database, run_id, {"team": "blue"})
    assert proj("push", run_id, "--to", server.url).code == 0
    bundle = next((tmp_path / "server").rglob("code.bundle"))
    bundle.write_bytes(bundle.read_bytes()[:-30])
    there = {"PROJ_HOME": str(tmp_path / "there")}
    pulled = proj("pull", run_id, "--from", server.url, **there)
    assert "The code of the run" in pulled.err
    assert "is damaged" in pulled.err
    assert proj("show", "@team=blue", "--json", **there).json["run_id"] == run_id
