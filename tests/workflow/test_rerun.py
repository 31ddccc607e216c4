"""``proj rerun``: the same code, lock and inputs, with other parameters as given."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.base.tags import RERUNS_TAG
from runner.model import EnvironmentRecord
from runner.rerunning import describe_deviations
from runner.settings import Home
from tests.conftest import MakeRepository, Result, RunProj, git

LOCAL = ("--env-manager", "local")
MANIFEST = """\
name: again
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      beta: {type: float, default: 1}
      data: {type: path, default: data.csv}
      password: {type: string, default: none}
    inputs: [data.csv]
    command: python train.py {alpha} {beta} {data}
"""
SCRIPT = """\
import os, pathlib, sys
alpha, beta, data = sys.argv[1:]
pathlib.Path("out.txt").write_text("version 1 " + pathlib.Path(data).read_text())
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f"score={float(alpha) + float(beta)}\\n")
"""
FILES = {"MLproject": MANIFEST, "train.py": SCRIPT, ".gitignore": "*.csv\n", "data.csv": "1,2\n"}


def out_of(proj: RunProj, run_id: str, folder: Path) -> str:
    assert proj("get", run_id, "--to", str(folder)).code == 0
    return next(folder.rglob("out.txt")).read_text()


@pytest.fixture
def root(make_repository: MakeRepository) -> Path:
    return make_repository(FILES)


def first_run(proj: RunProj, root: Path, *words: str) -> Result:
    done = proj("run", ".", "--json", *LOCAL, *words, cwd=root)
    assert done.code == 0, done.err
    return done


def test_the_code_and_the_other_parameters_are_those_of_the_run(proj: RunProj, root: Path, tmp_path: Path) -> None:
    (root / "train.py").write_text(SCRIPT.replace("version 1", "version 2"))
    before = first_run(proj, root, "-P", "beta=2", "--experiment", "sweep").json
    assert before["code"]["dirty"]
    (root / "train.py").write_text("raise SystemExit('edited since')\n")
    git(root, "commit", "--quiet", "--all", "--message=second")
    again = proj("rerun", before["run_id"], "-P", "alpha=0.25", "--tag", "sweep", "--json", cwd=tmp_path)
    assert again.code == 0, again.err
    after = again.json
    assert after["code"] == before["code"]
    assert after["metrics"] == {"score": 2.25}
    assert {one["name"]: (one["value"], one["source"]) for one in after["parameters"]} == {
        "alpha": ("0.25", "command line"),
        "beta": ("2.0", "command line"),
        "data": ("data.csv", "default"),
        "password": ("none", "default"),
    }
    assert (after["experiment"], after["tags"][RERUNS_TAG], after["tags"]["sweep"]) == (
        "sweep",
        before["run_id"],
        "true",
    )
    assert after["inputs"] == before["inputs"]
    assert out_of(proj, after["run_id"], tmp_path / "got").startswith("version 2 1,2")


def test_inputs_that_changed_stop_the_run_before_it_starts(proj: RunProj, root: Path) -> None:
    before = first_run(proj, root).json
    (root / "data.csv").write_text("3,4\n")
    refused = proj("rerun", "latest", cwd=root)
    assert refused.code == 1
    assert "data.csv has changed since" in refused.err
    assert "--allow-changed-inputs" in refused.err
    assert len(proj("list", "--json", cwd=root).json) == 1
    allowed = proj("rerun", "latest", "--allow-changed-inputs", "--json", cwd=root)
    assert allowed.code == 0, allowed.err
    assert "data.csv has changed since" in allowed.json["notices"]
    (root / "other.csv").write_text("5,6\n")
    other = proj("rerun", before["run_id"], "-P", "data=other.csv", "--json", cwd=root)
    assert other.code == 0, other.err
    (root / "data.csv").unlink()
    assert "there is no 'data.csv'" in proj("rerun", before["run_id"], cwd=root).err


def test_a_run_whose_project_is_gone_runs_from_its_tree(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({**FILES, ".gitignore": ""}, "gone")
    before = first_run(proj, root).json
    shutil.rmtree(root)
    again = proj("rerun", before["run_id"], "--json", cwd=tmp_path)
    assert again.code == 0, again.err
    assert again.json["metrics"] == before["metrics"]
    assert again.json["code"]["tree"] == before["code"]["tree"]


def test_a_secret_is_given_again_or_the_run_is_refused(proj: RunProj, root: Path) -> None:
    run_id = first_run(proj, root, "-P", "password=hunter22").json["run_id"]
    refused = proj("rerun", run_id, cwd=root)
    assert refused.code == 2
    assert "-P password=VALUE" in refused.err
    again = proj("rerun", run_id, "-P", "password=hunter23", "--json", cwd=root)
    assert again.code == 0, again.err
    assert "hunter" not in again.out + again.err


def test_the_plan_is_shown_and_nothing_is_recorded(proj: RunProj, root: Path) -> None:
    run_id = first_run(proj, root, "-P", "alpha=0.75").json["run_id"]
    plan = proj("rerun", run_id, "-P", "beta=3", "--dry-run", "--json", cwd=root).json
    assert plan["run_id"] is None
    assert {one["name"]: one["value"] for one in plan["parameters"]} | {"alpha": "0.75", "beta": "3.0"} == {
        one["name"]: one["value"] for one in plan["parameters"]
    }
    assert len(proj("list", "--json", cwd=root).json) == 1


def test_the_exit_code_is_that_of_the_command(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": "name: x\nentry_points:\n  main: {command: 'exit 7'}\n"}, "failing")
    assert proj("run", ".", *LOCAL, cwd=root).code == 7
    assert proj("rerun", "latest", cwd=root).code == 7
    assert [one["status"] for one in proj("list", "--json", cwd=root).json] == ["FAILED", "FAILED"]


def test_a_run_that_a_client_logged_is_refused(proj: RunProj, home: Home, tmp_path: Path) -> None:
    code = (
        "from contextlib import closing; import sys; from pathlib import Path;"
        "from runner.store.database import Database; from runner.store import runs;"
        "from runner.store.entities import NewRun;"
        "database = Database.open(Path(sys.argv[1])); runs.create(database, NewRun(name='logged')); database.close()"
    )
    home.ensure()
    subprocess.run([sys.executable, "-c", code, str(home.database)], check=True)
    refused = proj("rerun", "logged", cwd=tmp_path)
    assert refused.code == 2
    assert "was not started by `proj run`" in refused.err
    assert json.loads(proj("list", "--all", "--json").out)[0]["run_name"] == "logged"


def test_the_environment_of_a_rerun_is_compared_with_the_one_before() -> None:
    before = EnvironmentRecord(manager="uv", python="3.11.4", platform="linux", packages=(("a", "1"), ("b", "2")))
    after = EnvironmentRecord(manager="uv", python="3.11.5", platform="linux", packages=(("a", "1"), ("b", "3")))
    assert describe_deviations(before, before) is None
    assert describe_deviations(before, after) == "Python 3.11.5 instead of 3.11.4; b 3 instead of 2"
    assert describe_deviations(None, after) is None


def test_damaged_code_is_refused_before_the_start(proj: RunProj, root: Path, home: Home) -> None:
    before = first_run(proj, root).json
    identity = git(home.snapshot_store, "rev-parse", f"{before['code']['tree']}:train.py")
    stored = home.snapshot_store / "objects" / identity[:2] / identity[2:]
    stored.chmod(0o600)
    stored.write_bytes(b"damaged")
    refused = proj("rerun", before["run_id"])
    assert refused.code == 1
    assert "damaged in the snapshot store" in refused.err
    assert len(proj("list", "--json").json) == 1, "no run was started"


@pytest.mark.env
def test_the_lock_of_the_run_is_used_and_its_damage_is_named(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    project = {
        "MLproject": "name: x\npython_env: python_env.yaml\nentry_points:\n  main: {command: python -c 'import six'}\n",
        "python_env.yaml": "python: '>=3.10'\ndependencies: [six]\n",
    }
    root = make_repository(project, "locked")
    before = proj("run", ".", "--json", "--as-of", "2021-01-01", cwd=root).json
    assert dict(before["environment"]["packages"])["six"] == "1.15.0"
    shutil.rmtree(home.locks)
    again = proj("rerun", before["run_id"], "--json", cwd=root)
    assert again.code == 0, again.err
    assert again.json["environment"]["digest"] == before["environment"]["digest"]
    assert again.json["environment"]["lock_digest"] == before["environment"]["lock_digest"]
    lock = home.lock(before["run_id"])
    assert lock is not None
    lock.write_text(lock.read_text().replace("1.15.0", "1.16.0"))
    refused = proj("rerun", before["run_id"], cwd=root)
    assert refused.code == 1
    assert "The lock of the run was changed since" in refused.err
    lock.unlink()
    gone = proj("rerun", before["run_id"], cwd=root)
    assert gone.code == 1
    assert "is not there any more" in gone.err


@pytest.mark.env
def test_a_resumed_run_has_the_lock_of_the_interrupted_one(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    project = {
        "MLproject": "name: x\npython_env: python_env.yaml\nentry_points:\n  main: {command: python t.py}\n",
        "python_env.yaml": "python: '>=3.10'\ndependencies: [six]\n",
        "t.py": "import os, six, sys\nsys.exit('PROJ_RESUMED_FROM' not in os.environ)\n",
    }
    root = make_repository(project, "locked")
    before = proj("run", ".", "--json", "--as-of", "2021-01-01", cwd=root).json
    shutil.rmtree(home.locks)
    again = proj("run", "--resume", before["run_id"], "--json")
    assert again.code == 0, again.err
    assert again.json["environment"]["lock_digest"] == before["environment"]["lock_digest"]
    lock = home.lock(before["run_id"])
    assert lock is not None
    lock.write_text(lock.read_text().replace("1.15.0", "1.16.0"))
    refused = proj("run", "--resume", before["run_id"])
    assert refused.code == 1
    assert "The lock of the run was changed since" in refused.err
