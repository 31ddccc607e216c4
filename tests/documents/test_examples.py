"""Each example project runs, and its ``verify`` script says so; with MLflow in place of proj it runs as well."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_projects"
PROJECTS = sorted(path.parent for path in EXAMPLES.glob("*/verify"))
MORE_RUNS = {
    "elasticnet": [["-P", "alpha=1"]],
    "diabetes_forest": [["-e", "autolog"], ["-P", "max_depth=3", "-P", "n_estimators=20"]],
}
RUNS = [
    pytest.param(project, words, id=" ".join([project.name, *words]))
    for project in PROJECTS
    for words in ([], *MORE_RUNS.get(project.name, []))
]


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home for all runs here, so that each environment is built once."""
    return tmp_path_factory.mktemp("home")


def proj(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run proj as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "runner.cli.main", *map(str, words)],
        env={**os.environ, "PROJ_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def verify(project: Path, record: str) -> subprocess.CompletedProcess[str]:
    """Run the verify script of a project on a record."""
    return subprocess.run(
        [sys.executable, "-I", project / "verify"], input=record, capture_output=True, text=True, check=False
    )


@pytest.mark.env
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.parametrize(("project", "words"), RUNS)
def test_a_run_is_as_its_verify_script_wants_it(project: Path, words: list[str], shared_home: Path) -> None:
    run = proj(shared_home, "run", project, *words, "--json")
    assert run.returncode == 0, run.stderr[-4000:]
    shown = proj(shared_home, "show", json.loads(run.stdout)["run_id"], "--json")
    verdict = verify(project, shown.stdout)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_verify_refuses_a_run_that_failed(project: Path, tmp_path: Path) -> None:
    record = {"run_id": "1", "status": "FAILED", "exit_code": 3, "parameters": [], "metrics": {}}
    verdict = verify(project, json.dumps({**record, "entry_point": "main", "log": str(tmp_path / "1" / "log.txt")}))
    assert verdict.returncode == 1
    assert "FAILED" in verdict.stdout
    assert verdict.stderr == ""


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_a_project_is_whole(project: Path) -> None:
    assert {"MLproject", "README.md", "python_env.yaml", "requirements.in", "requirements.txt"} <= {
        path.name for path in project.iterdir()
    }
    assert os.access(project / "verify", os.X_OK)
    lock = (project / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|--(extra-)?index|--find-links|@ ", lock)
    assert all("==" in entry and "--hash=sha256:" in entry for entry in lock.replace("\\\n", " ").splitlines())


@pytest.mark.env
@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("project", "script"),
    [("elasticnet", "train.py"), ("diabetes_forest", "train.py")],
)
def test_a_script_runs_by_hand_from_the_lock(project: str, script: str, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / project, tmp_path / project)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv
    environment = tmp_path / "environment"
    lock = ["--require-hashes", "--requirements", folder / "requirements.txt"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", environment, *lock], check=True)
    run = subprocess.run(
        [environment / "bin" / "python", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert list(folder.rglob("MLmodel"))
