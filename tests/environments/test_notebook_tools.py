"""Notebooks as entry points: the packages that execute them, their parameters, pages and failures."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.environments.model import Prepared
from runner.environments.notebook_tools import with_kernels
from runner.manifest import FolderFiles
from runner.model import EnvironmentRecord
from tests.conftest import RunProj, commit_all, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

SOURCES = ["alpha = 1", "import six\nprint('six', six.__version__, 'alpha', alpha)", "if alpha == 3:\n    1 / 0"]

SECRET = "sup3rs3cretvalue"
MANIFEST = """\
entry_points:
  book:
    parameters: {alpha: {type: int, default: 1}}
    command: papermill train.ipynb done.ipynb -p alpha {alpha}
"""


def book(sources: Sequence[str] = SOURCES, kernel: str = "authors-env") -> str:
    """Return a notebook; the first cell has the default values of the parameters."""
    cells = [
        {
            "cell_type": "code",
            "source": source.splitlines(keepends=True),
            "metadata": {"tags": ["parameters"]} if number == 0 else {},
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(sources)
    ]
    spec = {"name": kernel, "display_name": kernel, "language": "python"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 4})


@pytest.mark.env
def test_a_notebook_of_a_locked_project(proj: RunProj, tmp_path: Path) -> None:
    files = {"MLproject": MANIFEST, "train.ipynb": book(), "requirements.txt": "six==1.16.0\n"}
    root = write_tree(tmp_path / "p", files)
    locked = proj("lock", cwd=root)
    assert locked.code == 0, locked.err
    commit_all(root)
    lines = [one for one in (root / "requirements.lock").read_text().splitlines() if "six==" in one or "--hash" in one]

    done = proj("run", ".", "-P", "alpha=2", "--as-of", "now", "--json", cwd=root)
    assert done.code == 0, done.err
    record = done.json
    packages = dict(record["environment"]["packages"])
    assert packages["six"] == "1.16.0"
    assert {"papermill", "ipykernel", "nbconvert"} <= set(packages)
    assert record["environment"]["repairs"] == [
        "'papermill', 'ipykernel', 'nbconvert' are added: train.ipynb is a notebook",
        "the kernel 'authors-env' of the notebook is the Python of the environment",
    ]
    assert sorted(one["path"] for one in record["outputs"]) == ["done.html", "done.ipynb"]
    got = proj("get", record["run_id"], "--to", str(tmp_path / "got"), cwd=root)
    assert got.code == 0, got.err
    assert "six 1.16.0 alpha 2" in next((tmp_path / "got").rglob("done.html")).read_text()
    exported = proj("env", "export", record["run_id"], cwd=root)
    assert all(line in exported.out for line in lines), "the lines of the project's lock are unchanged"

    failed = proj("run", ".", "-P", "alpha=3", "--as-of", "now", "--json", cwd=root)
    assert failed.code != 0
    assert failed.json["failed_at"] == "train.ipynb, cell 3, line 2 '1 / 0': ZeroDivisionError: division by zero"
    assert "Building environment" not in failed.err, "the second run uses the same environment"
    assert sorted(one["path"] for one in failed.json["outputs"]) == ["done.html", "done.ipynb"]

    words = ("-e", "train.ipynb", "-P", "alpha=3", "-P", f"password={SECRET}")
    script = proj("run", ".", *words, "--as-of", "now", cwd=root)
    assert "failed at: train.ipynb, cell 3, line 2 '1 / 0': ZeroDivisionError" in script.err
    assert "six 1.16.0 alpha 3" in script.out + script.err, "what cells print is output of the run"
    kept = proj("get", "latest", "--to", str(tmp_path / "secret"), cwd=root)
    assert kept.code == 0, kept.err
    files = [path for path in (tmp_path / "secret").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"train.executed.ipynb", "train.executed.html"}
    assert not any(SECRET in path.read_text() for path in files), "papermill writes parameters into the notebook"
    plain = proj("run", ".", "--no-repair", cwd=root)
    assert plain.code != 0, "nothing is added without repairs"


@pytest.mark.env
def test_nbconvert_executes_a_notebook(proj: RunProj, tmp_path: Path) -> None:
    manifest = "entry_points:\n  main:\n    command: jupyter nbconvert --to notebook --execute train.ipynb\n"
    root = write_tree(
        tmp_path / "p", {"MLproject": manifest, "train.ipynb": book(["x = 1", "1 / 0"]), "requirements.txt": "six\n"}
    )
    failed = proj("run", ".", "--json", cwd=root)
    assert failed.json["failed_at"] == "train.ipynb, cell 2, line 1 '1 / 0': ZeroDivisionError: division by zero"
    (root / "train.ipynb").write_text(book(["x = 1", "x + 41"]))
    done = proj("run", ".", "--json", cwd=root)
    assert done.code == 0, done.err
    assert sorted(one["path"] for one in done.json["outputs"]) == ["train.nbconvert.html", "train.nbconvert.ipynb"]


@pytest.mark.slow
def test_parameters_without_a_cell_for_them(tmp_path: Path, proj: RunProj) -> None:
    root = write_tree(tmp_path / "p", {"MLproject": "name: p\n", "a.ipynb": book().replace("parameters", "other")})
    warned = proj("run", ".", "-e", "a.ipynb", "-P", "alpha=1", "--dry-run", cwd=root)
    assert "a.ipynb: no cell is tagged 'parameters'" in warned.err
    assert "no cell is tagged" not in proj("run", ".", "-e", "a.ipynb", "--dry-run", cwd=root).err


@pytest.mark.quick
@pytest.mark.parametrize("name", ["python3", "", "../up", ".."])
def test_kernels_that_are_not_described(tmp_path: Path, name: str) -> None:
    files = FolderFiles(write_tree(tmp_path / "p", {"a.ipynb": book(kernel=name)}))
    environment = Prepared(record=EnvironmentRecord(manager="uv"), prefix=tmp_path)
    assert with_kernels(environment, "papermill a.ipynb b.ipynb", files, tmp_path / "run") == environment
    assert not (tmp_path / "run").exists()
