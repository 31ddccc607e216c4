"""`proj run` of scripts that log with a real client of MLflow: the traps of attaching, ending and nesting."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.server.run.redirects import CLIENT_SHIM
from tests.conftest import ROOT, MakeRepository, RunProj
from tests.support.mlflow_clients import client_python

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow]

HEAD = "import sys, mlflow\n"
OLDEST_AND_NEWEST = pytest.mark.parametrize("version", ["1.30.1", "3.17.2"])

RunScript = Callable[..., Any]


@pytest.fixture
def run_script(proj: RunProj, make_repository: MakeRepository) -> RunScript:
    """Return a function that runs a script with the client of a version and returns record and exit code."""

    def run(version: str, script: str, *words: str, command: str = "python t.py {alpha}", **variables: str) -> Any:
        parameters = "{alpha: {type: float, default: 0.5}}"
        manifest = f"entry_points:\n  main:\n    parameters: {parameters}\n    command: {command}\n"
        root = make_repository({"MLproject": manifest, "t.py": HEAD + script})
        path = f"{client_python(version).parent}:/usr/local/bin:/usr/bin:/bin"
        result = proj("run", ".", "--json", "--env-manager", "local", *words, cwd=root, PATH=path, **variables)
        assert result.out, result.err
        return {**result.json, "code_of_proj": result.code, "err": result.err}

    return run


@OLDEST_AND_NEWEST
@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_probe_20_a_status_set_on_purpose_stays(run_script: RunScript, version: str, status: str) -> None:
    done = run_script(version, f"mlflow.start_run()\nmlflow.end_run('{status}')\n")
    assert (done["status"], done["exit_code"], done["code_of_proj"]) == (status, 0, 0)


@OLDEST_AND_NEWEST
def test_a_client_that_ends_its_run_well_does_not_hide_an_exit_code(run_script: RunScript, version: str) -> None:
    done = run_script(version, "with mlflow.start_run():\n    mlflow.log_metric('m', 1)\nsys.exit(4)\n")
    assert (done["status"], done["exit_code"], done["code_of_proj"]) == ("FAILED", 4, 4)
    assert done["metrics"] == {"m": 1.0}


@OLDEST_AND_NEWEST
def test_probe_21_a_script_may_log_the_parameter_it_was_given(run_script: RunScript, version: str) -> None:
    script = "mlflow.start_run()\nmlflow.log_param('alpha', float(sys.argv[1]))\nmlflow.log_param('own', 1)\n"
    done = run_script(version, script, "-P", "alpha=0.00001")
    assert done["status"] == "FINISHED", done["err"]
    recorded = {each["name"]: (each["value"], each["source"]) for each in done["parameters"]}
    assert recorded == {"alpha": ("1e-05", "command line"), "own": ("1", "logged")}


@OLDEST_AND_NEWEST
def test_probe_23_another_experiment_in_the_script_is_no_crash(run_script: RunScript, version: str) -> None:
    script = "mlflow.set_experiment('other')\nwith mlflow.start_run():\n    mlflow.log_metric('m', 1)\n"
    done = run_script(version, script, MLFLOW_EXPERIMENT_NAME="exported")
    assert done["status"] == "FINISHED", done["err"]
    assert done["metrics"] == {"m": 1.0}


def test_probe_23_a_project_run_inside_is_linked_to_its_parent(
    run_script: RunScript, proj: RunProj, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "MLproject").write_text("entry_points:\n  main:\n    command: python -c pass\n")
    script = f"with mlflow.start_run():\n    mlflow.run({str(inner)!r}, env_manager='local')\n"
    outer = run_script("3.17.2", script)
    assert outer["status"] == "FINISHED", outer["err"]
    runs = proj("list", "--tree", "--all", "--json").json
    parents = {run["run_id"]: run["tags"].get("mlflow.parentRunId") for run in runs}
    assert sorted(parents.values(), key=str) == sorted([None, outer["run_id"]], key=str)


def test_a_run_of_proj_inside_is_linked_to_its_parent(proj: RunProj, make_repository: MakeRepository) -> None:
    command = f"PYTHONPATH={ROOT} {sys.executable} -m runner.cli.main run . -e inner --env-manager local"
    root = make_repository(
        {"MLproject": f"entry_points:\n  main:\n    command: {command}\n  inner:\n    command: 'true'\n"}
    )
    result = proj("run", ".", "--json", "--env-manager", "local", cwd=root)
    assert result.code == 0, result.err
    inner = next(run for run in proj("list", "--json").json if run["entry_point"] == "inner")
    assert inner["tags"]["mlflow.parentRunId"] == result.json["run_id"]


COMPUTED = """
import os, pathlib
from mlflow.tracking import MlflowClient
mlflow.set_tracking_uri({place})
mlflow.set_registry_uri(uri='sqlite:///' + 'registry.db')
mlflow.set_experiment('of the code')
with mlflow.start_run() as run:
    mlflow.log_metric('m', 1)
    mlflow.log_artifact('t.py')
assert MlflowClient('file:' + os.path.abspath('mlruns')).get_run(run.info.run_id).data.metrics == {{'m': 1.0}}
assert not os.path.exists('mlruns') and not os.path.exists('registry.db')
"""


@pytest.mark.parametrize("version", ["1.30.1", "2.22.5", "3.17.2"])
@pytest.mark.parametrize("place", ["'./mlru' + 'ns'", "'sqlite:///' + 'a.db'", "pathlib.Path('a') / 'b'"])
def test_a_place_on_disk_that_the_code_works_out_is_the_run(run_script: RunScript, version: str, place: str) -> None:
    done = run_script(version, COMPUTED.format(place=place))
    assert done["status"] == "FINISHED", done["err"]
    assert done["metrics"] == {"m": 1.0}
    assert len(done["redirects"]) == 3
    assert all(f"where the code logs (t.py:{line}), is this run" in done["err"] for line in (5, 6, 11))
    assert done["tags"]["proj.redirects"] == "; ".join(done["redirects"])
    assert done["environment"]["repairs"] == []


@OLDEST_AND_NEWEST
def test_a_place_on_disk_is_left_alone_when_nothing_may_be_repaired(run_script: RunScript, version: str) -> None:
    script = "mlflow.set_tracking_uri('sqlite:///' + 'a.db')\nprint(mlflow.get_tracking_uri(), file=sys.stderr)\n"
    done = run_script(version, script, "--no-repair")
    assert "sqlite:///a.db" in done["err"]
    assert done["redirects"] == []


REMOTE = """
import os
os.environ['MLFLOW_TRACKING_USERNAME'] = os.environ['MLFLOW_TRACKING_PASSWORD'] = 'of another server'
mlflow.set_tracking_uri('https://tracking.invalid/team')
print(mlflow.get_tracking_uri(), file=sys.stderr)
if len(sys.argv) > 2:
    mlflow.log_metric('m', 1)
"""


@OLDEST_AND_NEWEST
def test_another_machine_is_only_answered_for_when_that_is_asked(run_script: RunScript, version: str) -> None:
    served = ("--serve-as", "tracking.invalid:443")
    done = run_script(version, REMOTE, *served, command="python t.py {alpha} log")
    assert done["status"] == "FINISHED", done["err"]
    assert done["metrics"] == {"m": 1.0}
    assert done["redirects"] == ["'https://tracking.invalid/team', where the code logs (t.py:5), is this run"]


@OLDEST_AND_NEWEST
def test_another_machine_is_left_alone_and_reported(run_script: RunScript, version: str) -> None:
    done = run_script(version, REMOTE)
    assert "\nhttps://tracking.invalid/team\n" in done["err"]
    assert "--serve-as tracking.invalid:443" in done["err"]
    assert done["redirects"] == []


@pytest.mark.parametrize("package", ["mlflow", "not_mlflow"])
def test_a_client_that_is_not_there_is_missing_as_ever(package: str) -> None:
    words = [sys.executable, "-S", "-c", f"import {package}"]
    done = subprocess.run(words, env={"PYTHONPATH": str(CLIENT_SHIM)}, capture_output=True, text=True, check=False)
    assert f"ModuleNotFoundError: No module named '{package}'" in done.stderr


def test_a_logged_model_comes_back(run_script: RunScript, proj: RunProj, tmp_path: Path) -> None:
    script = (
        "from sklearn.linear_model import LinearRegression\nimport mlflow.sklearn\n"
        "with mlflow.start_run():\n"
        "    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])\n"
        "    mlflow.sklearn.log_model(model, name='model', pip_requirements=['scikit-learn'])\n"
    )
    done = run_script("3.17.2", script)
    assert done["status"] == "FINISHED", done["err"]
    assert proj("get", done["run_id"], "model", "--to", str(tmp_path / "got")).code == 0
    assert (tmp_path / "got" / "model" / "MLmodel").exists()
