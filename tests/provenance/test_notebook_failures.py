"""The cell of the user's notebook in which a command failed, in all formats of tracebacks."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.outcome import locate_failure
from runner.manifest import FolderFiles
from runner.provenance.notebook_failures import find_failed_cell
from tests.conftest import write_tree

RULE = "-" * 75
HEAD = "ZeroDivisionError                         Traceback (most recent call last)"
END = "\nZeroDivisionError: division by zero\n"
CELLS = ["# text", "alpha = 1", "", "import os\ndef f(x):\n    return 1 / x", "print(alpha)\nf(alpha)"]
NEW = (
    "Cell In[{count}], line 2\n      1 print(alpha)\n----> 2 f(alpha)\n\n"
    "Cell In[{before}], line 3, in f(x)\n----> 3     return 1 / x\n"
)
MIDDLE = "Input In [{count}], in <cell line: 2>()\n      1 print(alpha)\n----> 2 f(alpha)\n"
OLD = "<ipython-input-{count}-0123456789ab> in <module>\n      1 print(alpha)\n----> 2 f(alpha)\n"
FILE = "/tmp/ipykernel_12/34.py in <module>\n      1 print(alpha)\n----> 2 f(alpha)\n"
EXPECTED = "train.ipynb, cell 5, line 2 'f(alpha)': ZeroDivisionError: division by zero"


def book(sources: Sequence[str], *, executed: bool = False) -> str:
    cells: list[dict[str, object]] = []
    count = 0
    for source in sources:
        kind = "markdown" if source.startswith("# text") else "code"
        tags = ["injected-parameters"] if source == "alpha = 0" else []
        runs = kind == "code" and bool(source)
        count += runs
        cell = {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {"tags": tags}}
        cells.append({**cell, "execution_count": count if executed and runs else None})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    written = book([CELLS[0], CELLS[1], "alpha = 0", *CELLS[2:]], executed=True)
    return write_tree(
        tmp_path / "p", {"train.ipynb": book(CELLS), "other.ipynb": book(["x = 1"]), "out.ipynb": written}
    )


def papermill_log(frames: str) -> str:
    title = f'papermill.exceptions.PapermillExecutionError: \n{RULE}\nException encountered at "In [4]":\n{RULE}\n'
    return f"lines\n{title}{HEAD}\n{frames.format(count=4, before=3)}{END}"


@pytest.mark.parametrize("frames", [NEW, MIDDLE, OLD, FILE])
def test_papermill(project: Path, frames: str) -> None:
    command = "papermill train.ipynb out.ipynb -p alpha 0"
    assert find_failed_cell(papermill_log(frames), command, project, FolderFiles(project)) == EXPECTED


@pytest.mark.parametrize("frames", [NEW, MIDDLE, OLD])
@pytest.mark.parametrize("colour", ["", "\x1b[36m"])
def test_nbconvert(project: Path, frames: str, colour: str) -> None:
    text = frames.format(count=3, before=2).replace("Cell In", f"{colour}Cell In").replace("---->", f"{colour}---->")
    log = f"nbclient.exceptions.CellExecutionError: An error\n{RULE}\n{HEAD}\n{text}{END}"
    command = "jupyter nbconvert --to notebook --execute train.ipynb"
    assert find_failed_cell(log, command, project, FolderFiles(project)) == EXPECTED


def test_the_notebook_that_has_the_line_counts(project: Path) -> None:
    command = "papermill other.ipynb && papermill train.ipynb out.ipynb -p alpha 0"
    assert find_failed_cell(papermill_log(NEW), command, project, FolderFiles(project)) == EXPECTED


def test_an_error_of_syntax(tmp_path: Path) -> None:
    project = write_tree(tmp_path, {"a.ipynb": book(["x = 1", "def f(:\n    pass"])})
    frame = "  Cell In[2], line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n"
    log = f'Exception encountered at "In [2]":\n{RULE}\n{frame}'
    found = find_failed_cell(log, "papermill a.ipynb -", project, FolderFiles(project))
    assert found == "a.ipynb, cell 2, line 1 'def f(:': SyntaxError: invalid syntax"


@pytest.mark.parametrize(
    "log", ["", "killed\n", 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError\n']
)
def test_no_cell(project: Path, log: str) -> None:
    assert find_failed_cell(log, "papermill train.ipynb out.ipynb", project, FolderFiles(project)) is None


@given(st.text(alphabet='Cell In[]0123, line\n->Traceback(most recent call last)E:"papermill ', max_size=200))
def test_any_output_can_be_read(tmp_path_factory: pytest.TempPathFactory, log: str) -> None:
    project = write_tree(tmp_path_factory.getbasetemp() / "fuzz", {"train.ipynb": book(CELLS)})
    found = find_failed_cell(log, "papermill train.ipynb -", project, FolderFiles(project))
    assert found is None or found.startswith("train.ipynb, cell ")


def test_the_screen_names_the_users_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    assert locate_failure(EXPECTED, project) == f"p/{EXPECTED}"
    assert locate_failure("no place at all", project) == "no place at all"
