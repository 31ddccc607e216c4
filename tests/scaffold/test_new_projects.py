"""New projects work at once: with proj, with MLflow, and their own tests pass."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.model import Event
from runner.scaffold import ScaffoldRequest, new_project, packaged_templates
from runner.settings import Home
from tests.conftest import git

pytestmark = [pytest.mark.env, pytest.mark.mlflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MLFLOW = "mlflow==3.17.2"
METRICS = {"sklearn": {"accuracy", "log_loss"}, "minimal": {"pi", "error"}}


def silent(_event: Event) -> None:
    """Take an event and say nothing."""


def run(folder: Path, *words: str | Path, path: Path | None = None, **variables: str) -> str:
    """Run a command to its good end and return its output."""
    search = os.pathsep.join(
        [str(place) for place in (path, Path(sys.executable).parent) if place] + [os.environ["PATH"]]
    )
    done = subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env={**os.environ, "PATH": search, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(params=packaged_templates().names)
def project(request: pytest.FixtureRequest, tmp_path: Path, home: Home) -> tuple[str, Path]:
    """Return the name of a template and a project made from it."""
    name: str = request.param
    return name, new_project(ScaffoldRequest(folder=tmp_path / "churn", template=name), home, silent)


def test_proj_runs_a_new_project_and_its_tests(project: tuple[str, Path]) -> None:
    name, folder = project
    words = (sys.executable, "-m", "runner.cli.main", "run", ".", "--json")
    record = json.loads(run(folder, *words, PYTHONPATH=str(ROOT)))
    assert record["status"] == "FINISHED"
    assert record["experiment"] == "churn"
    assert METRICS[name] <= set(record["metrics"])
    assert record["code"]["commit"] == git(folder, "rev-parse", "HEAD")
    assert record["code"]["dirty"] is False
    tests = json.loads(run(folder, *words, "-e", "test", PYTHONPATH=str(ROOT)))
    assert tests["exit_code"] == 0
    assert git(folder, "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of an environment that holds MLflow and uv."""
    environment = tmp_path_factory.mktemp("mlflow") / "environment"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "uv"
    run(environment.parent, uv, "venv", "--quiet", "--python", sys.executable, environment)
    run(environment.parent, uv, "pip", "install", "--quiet", "--python", environment, MLFLOW, "uv")
    return environment / "bin"


def test_mlflow_runs_a_new_project_as_well(project: tuple[str, Path], mlflow: Path, tmp_path: Path) -> None:
    _name, folder = project
    place = {"MLFLOW_ENV_ROOT": str(tmp_path / "environments")}
    run(folder, mlflow / "mlflow", "run", ".", "--env-manager", "uv", path=mlflow, **place)
    assert git(folder, "status", "--porcelain") == ""
