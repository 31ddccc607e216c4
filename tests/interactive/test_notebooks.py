"""`runner` in real kernels: the code of the notebook is recorded, cells fail without ending it, runs work meanwhile."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import runner
from runner.interactive import notebook_code
from tests.conftest import ROOT, MakeRepository, write_tree

IMPORT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runner"
EXECUTE = """\
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sys.argv[2:]])
nbformat.write(book, sys.argv[1])
NotebookClient(book, kernel_name="python3", timeout=240, allow_errors=True).execute()
nbformat.write(book, sys.argv[1])
"""
MANIFEST = """\
name: book
entry_points:
  long:
    command: sleep 600
  quick:
    command: echo score=2 >> $PROJ_METRICS
"""


def execute(folder: Path, cells: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Execute cells in a kernel and return what each shows: its text, HTML, or the name of its error."""
    file = folder / "book.ipynb"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(file), *cells],
        cwd=folder,
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    shown = []
    for cell in json.loads(file.read_text())["cells"]:
        texts = []
        for output in cell["outputs"]:
            data = output.get("data", {})
            texts += data.get("text/html") or data.get("text/plain") or output.get("text") or [output.get("ename", "")]
        shown.append("".join(texts))
    return shown


@pytest.fixture
def root(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": MANIFEST, ".gitignore": "book.ipynb\n"})


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> dict[str, str]:
    for name in ("RUNTIME", "DATA", "CONFIG"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(root / "book.ipynb"))
    return dict(os.environ)


@pytest.mark.slow
def test_a_notebook_opens_runs(root: Path, variables: dict[str, str]) -> None:
    cells = [
        IMPORT,
        "token = 'ghp_" + "a1B2" * 9 + "'\nrun = runner.start_run('first')\nrun",
        "run.log_metric('m', 1)\nrun.log_param('alpha', 2)",
        "1 / 0",
        "run.end()\nrunner.search_runs()",
        "with runner.start_run('second'):\n    x = 1\n    {}['key']",
        "left = runner.start_run('left open')",
    ]
    shown = execute(root, cells, variables)
    assert "<table>" in shown[1]
    assert "RUNNING" in shown[1]
    assert (shown[3], shown[5]) == ("ZeroDivisionError", "KeyError")
    assert "FINISHED" in shown[4], "a cell that fails does not end the run"
    first, second, left = (runner.get_run(name) for name in ("first", "second", "left open"))
    assert (first.status, first.metrics, first.params) == ("FINISHED", {"m": 1.0}, {"alpha": "2"})
    assert (first.entry_point, first.tags["mlflow.source.type"]) == ("book.ipynb", "NOTEBOOK")
    assert first.tags["proj.notebook"] == "code/history.py; code/book.ipynb"
    history = first.artifact("code/history.py").read_text()
    assert "# In [3]:\nrun.log_metric('m', 1)\nrun.log_param('alpha', 2)\n" in history
    assert "# In [6]" not in history
    assert "ghp_" not in history
    assert "a1B2" not in first.artifact("code/book.ipynb").read_text()
    assert (second.status, second.reason) == ("FAILED", "KeyError: 'key'")
    assert second.failed_at == "In [6], line 3 '{}['key']': KeyError: 'key'"
    assert (left.status, left.parent) == ("FINISHED", None)
    assert any("without end()" in text for text in left.notices)


@pytest.mark.slow
def test_runs_in_the_background_of_a_notebook(root: Path, variables: dict[str, str]) -> None:
    cells = [
        IMPORT,
        "quick = runner.run('.', entry_point='quick', environment_manager='local', wait=False)",
        "long = runner.run('.', entry_point='long', environment_manager='local', wait=False)\nlong",
        "quick.wait()",
        "print(long.poll())\nlong.stop()\nlong.wait().status",
        "runner.run('.', entry_point='quick', environment_manager='local').status",
    ]
    shown = execute(root, cells, variables)
    assert "running" in shown[2]
    assert "score" in shown[3]
    assert shown[4] == "None\n'KILLED'"
    assert shown[5].endswith("'FINISHED'")


@contextmanager
def jupyter_server(folder: Path, sessions: object) -> Iterator[None]:
    """Answer as a Jupyter server does, and describe it where kernels look."""

    class Sessions(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "token secret" and self.path == "/base/api/sessions"
            self.send_response(200 if is_known else 403)
            self.end_headers()
            self.wfile.write(json.dumps(sessions).encode() if is_known else b"{}")

        def log_request(self, *_: object) -> None:
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Sessions) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        about = {"url": f"http://127.0.0.1:{server.server_port}/base/", "token": "secret", "root_dir": str(folder)}
        write_tree(folder / "runtime", {"jpserver-2.json": json.dumps(about), "jpserver-1.json": "{damaged"})
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("sessions", "found"),
    [
        ([{"path": "a/x.ipynb", "kernel": {"id": "2"}}, {"path": "a/y.ipynb", "kernel": {"id": "1-2"}}], "a/y.ipynb"),
        ([{"path": "a/absent.ipynb", "kernel": {"id": "1-2"}}], None),
        ([{"path": "a/y.ipynb", "kernel": None}], None),
        ({"message": "no"}, None),
    ],
)  # fmt: skip
def test_the_notebook_of_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: object, found: str | None
) -> None:
    write_tree(tmp_path, {"a/x.ipynb": "{}", "a/y.ipynb": "{}"})
    config = {"IPKernelApp": {"connection_file": str(tmp_path / "runtime" / "kernel-1-2.json")}}
    shell = SimpleNamespace(user_ns={}, config=config)
    monkeypatch.setattr(notebook_code, "shell", lambda: shell)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with jupyter_server(tmp_path, sessions):
        assert notebook_code.notebook_file() == (tmp_path / found if found else None)
    assert notebook_code.notebook_file() is None, "the server has ended"
    shell.user_ns["__vsc_ipynb_file__"] = str(tmp_path / "a" / "x.ipynb")
    assert notebook_code.notebook_file() == tmp_path / "a" / "x.ipynb"


def test_a_program_has_no_notebook() -> None:
    assert (notebook_code.notebook_file(), notebook_code.executed_cells()) == (None, None)
