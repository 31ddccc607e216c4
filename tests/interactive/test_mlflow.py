"""Real clients of MLflow in a program that opens its runs itself."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import runner
from tests.conftest import ROOT, MakeRepository, unavailable
from tests.support.mlflow_clients import client_python

BEGIN = f"import sys; sys.path += [{str(ROOT)!r}, {sysconfig.get_path('purelib')!r}]\n"
"""The packages of the client come first, as in an environment where proj was added to them."""

ALL_WAYS = """\
import runner
with runner.start_run("one", experiment="e") as one:
    import mlflow
    mlflow.log_metric("m", 1)
    mlflow.log_param("p", "x")
    open("note.txt", "w").write("text")
    mlflow.log_artifact("note.txt")
    with runner.start_run("inner"):
        mlflow.log_metric("m", 2)
    mlflow.log_metric("after", 1)
with runner.start_run("two"):
    mlflow.log_metric("m", 3)
try:
    with runner.start_run("three"):
        mlflow.log_metric("m", 4)
        raise ValueError("bad")
except ValueError:
    pass
assert mlflow.active_run() is None
with runner.start_run("four"):
    with mlflow.start_run():
        mlflow.log_metric("m", 5)
left = runner.start_run("five")
mlflow.log_metric("m", 6)
"""

ELSEWHERE = """\
import logging, os
logging.basicConfig(format="%(message)s")
import mlflow, runner
mlflow.set_tracking_uri("file:" + os.path.abspath("mlruns"))
with runner.start_run("one"):
    runner.get_run()
"""


def run_program(python: Path, folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    words = [python, "-c", "import sys; print(sys.version_info[:2])"]
    version = subprocess.run(words, check=True, capture_output=True, text=True)
    if version.stdout.strip() != str(sys.version_info[:2]):
        raise unavailable("the tests run in another Python than the client")
    (folder / "own.py").write_text(BEGIN + text)
    return subprocess.run([python, "own.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture
def root(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": "name: p\n", ".gitignore": "own.py\nmlruns\nnote.txt\n"})


@pytest.mark.mlflow
@pytest.mark.parametrize("version", ["2.22.5", "3.1.4"])
def test_the_client_logs_to_the_open_run(root: Path, version: str) -> None:
    done = run_program(client_python(version), root, ALL_WAYS)
    assert done.returncode == 0, done.stderr
    found = {run.run_name: (run.status, run.metrics) for run in runner.search_runs()}
    assert found == {
        "one": ("FINISHED", {"m": 1.0, "after": 1.0}),
        "inner": ("FINISHED", {"m": 2.0}),
        "two": ("FINISHED", {"m": 3.0}),
        "three": ("FAILED", {"m": 4.0}),
        "four": ("FINISHED", {"m": 5.0}),
        "five": ("FINISHED", {"m": 6.0}),
    }, done.stderr
    one = runner.get_run("one")
    assert (one.params, one.experiment) == ({"p": "x"}, "e")
    assert one.artifact("note.txt").read_text() == "text"


@pytest.mark.mlflow
def test_a_client_that_logs_elsewhere_is_named(root: Path) -> None:
    done = run_program(client_python("2.22.5"), root, ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert "not to this run" in done.stderr
    assert runner.get_run("one").status == "FINISHED"
