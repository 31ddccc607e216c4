"""Which notebooks a command executes, and what a notebook says about itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.analysis.notebooks import NotebookRun, notebook_runs, notebook_words, read_notebook


@pytest.mark.quick
@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("papermill a.ipynb b.ipynb -p x 1", [("papermill", "a.ipynb", "b.ipynb")]),
        ("python -m papermill -k python3 'my a.ipynb' b.ipynb", [("papermill", "my a.ipynb", "b.ipynb")]),
        ("A=1 /opt/bin/papermill a.ipynb -", [("papermill", "a.ipynb", None)]),
        ("exec papermill a.ipynb b.ipynb", [("papermill", "a.ipynb", "b.ipynb")]),
        ("jupyter nbconvert --to notebook --execute nb/a.ipynb", [("nbconvert", "nb/a.ipynb", None)]),
        ("jupyter-nbconvert --execute --inplace a.ipynb", [("nbconvert", "a.ipynb", None)]),
        ("jupyter nbconvert --to html a.ipynb", []),
        ("echo papermill a.ipynb", []),
        ("python train.py a.ipynb", []),
        ("papermill --version", []),
        (
            "papermill a.ipynb a.out.ipynb \\\n  -p x 1 && papermill b.ipynb b.out.ipynb\nls",
            [("papermill", "a.ipynb", "a.out.ipynb"), ("papermill", "b.ipynb", "b.out.ipynb")],
        ),
        ("papermill 'a.ipynb", []),
    ],
)  # fmt: skip
def test_executed_notebooks(command: str, runs: list[tuple[str, str, str | None]]) -> None:
    assert notebook_runs(command) == tuple(NotebookRun(*run) for run in runs)


@pytest.mark.quick
def test_words_that_are_notebooks() -> None:
    assert notebook_words("papermill a.ipynb 'b c.ipynb'; cp a.ipynb /tmp") == ("a.ipynb", "b c.ipynb")


@pytest.mark.quick
@given(st.text(alphabet=" ;&|'\"\\=-papermill.ipynb\n", max_size=80))
def test_any_command_can_be_read(command: str) -> None:
    assert all(
        run.path in command or "\\" in command or "'" in command or '"' in command for run in notebook_runs(command)
    )


@pytest.mark.quick
def test_what_a_notebook_says() -> None:
    cells = [
        {"cell_type": "code", "source": ["a = 1\n", "b = 2"], "metadata": {"tags": ["parameters"]}},
        {"cell_type": "markdown", "source": "text", "metadata": {}},
    ]
    book = read_notebook(json.dumps({"cells": cells, "metadata": {"language_info": {"name": "R"}}}).encode())
    assert book is not None
    assert (book.has_parameters, book.is_python, book.cells[0].text) == (True, False, "a = 1\nb = 2")
    plain = read_notebook(b"\xef\xbb\xbf{}")
    assert plain is not None
    assert (plain.is_python, plain.has_parameters) == (True, False)


@pytest.mark.quick
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"cells": 1}', b'{"cells": [{"source": 1}]}', b"\xff"])
def test_what_is_no_notebook(content: bytes) -> None:
    assert read_notebook(content) is None
