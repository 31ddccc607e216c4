"""Static analysis of scripts: imports, URLs and paths."""

import json
from pathlib import Path

import pytest

from runner.analysis.script_reader import read_script
from runner.analysis.scripts import read_all, read_scripts
from runner.manifest.files import FolderFiles
from tests.conftest import MakeRepository, write_tree


def texts(places: object) -> list[str]:
    return [place.text for place in places]  # type: ignore[attr-defined]


def test_imports_are_the_required_modules() -> None:
    code = (
        "from __future__ import annotations\nimport numpy as np, pandas.io\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import hidden\n"
        "try:\n    import optional\nexcept ImportError:\n    optional = None\n"
        "def f():\n    from late import thing\n"
    )
    script = read_script("a.py", code)
    assert texts(script.imports) == ["__future__", "numpy", "pandas.io", "typing", "late"]
    assert texts(script.guarded) == ["optional"]
    assert [place.line for place in script.imports if place.text == "late"] == [11]


def test_imports_are_found_in_scripts_of_another_syntax() -> None:
    assert texts(read_script("a.py", "import numpy\nprint 'old'\n").imports) == ["numpy"]


def test_tracking_uris_are_found_in_every_form() -> None:
    code = (
        "import mlflow, os, dagshub\nURI = 'http://localhost:5000'\nmlflow.set_tracking_uri(URI)\n"
        "mlflow.set_tracking_uri(os.environ.get('MLFLOW_TRACKING_URI', 'http://ours'))\n"
        "os.environ['MLFLOW_TRACKING_URI'] = 'https://me:secret@host/x'\n"
        "mlflow.set_registry_uri(uri='sqlite:///a.db')\nMlflowClient('http://b:1').search_runs()\n"
        "dagshub.init(repo_owner='a', repo_name='b')\n"
    )
    found = texts(read_script("a.py", code).tracking)
    assert found == ["http://localhost:5000", "https://host/x", "sqlite:///a.db", "http://b:1", "DagsHub"]


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        ("MlflowClient('http://b:1')\n", False),
        ("client = MlflowClient('http://b:1')\n", False),
        ("client = mlflow.tracking.MlflowClient(tracking_uri='http://b:1')\nprint('client')\n", False),
        ("client: MlflowClient = MlflowClient('http://b:1')\n", False),
        ("client = MlflowClient('http://b:1')\nclient.search_runs()\n", True),
        ("class A:\n    def __init__(self):\n        self.client = MlflowClient('http://b:1')\n", False),
        ("self.client = MlflowClient('http://b:1')\nprint(self.client)\n", True),
        ("use(MlflowClient('http://b:1'))\n", True),
        ("def make():\n    return MlflowClient('http://b:1')\n", True),
        ("a, b = MlflowClient('http://b:1'), 1\n", True),
        ("clients['a'] = MlflowClient('http://b:1')\n", True),
    ],
)
def test_an_unused_client_has_no_tracking_uri(code: str, is_told: bool) -> None:
    assert bool(read_script("a.py", code).tracking) == is_told


@pytest.mark.parametrize(
    "code",
    [
        "mlflow.set_tracking_uri(args.where)",
        "where = args.server\nmlflow.set_tracking_uri(where)",
        "mlflow.set_tracking_uri(config['where'])",
        "def main(where):\n    mlflow.set_tracking_uri(where)",
        "client = MlflowClient(tracking_uri=where)\nclient.x()",
    ],
)
def test_the_names_of_uris_are_found(code: str) -> None:
    assert "where" in texts(read_script("a.py", code).tracking_names)


def test_absolute_paths_are_found_and_docstrings_are_not_read() -> None:
    code = '"""/home/me/no"""\nread("C:\\\\Users\\\\me\\\\a.csv")\nr("/home/me/b.csv")\nread("/tmp/c", "/api", "a/b")\n'
    assert texts(read_script("a.py", code).paths) == ["C:\\Users\\me\\a.csv", "/home/me/b.csv", "/tmp/c"]


def test_local_modules_are_followed_and_not_reported(tmp_path: Path) -> None:
    files = write_tree(
        tmp_path,
        {
            "src/train.py": "import helper\nfrom pkg.deep import thing\nimport json, sklearn\n",
            "src/helper.py": "import scipy\n",
            "src/pkg/__init__.py": "",
            "src/pkg/deep.py": "from . import other\nfrom .. import nothing\n",
            "src/pkg/other.py": "import torch\n",
            "sklearn/train.py": "a folder that has the name of a package is none",
        },
    )
    scripts = read_scripts("python src/train.py --x {x}", FolderFiles(files))
    assert scripts.started == ("src/train.py",)
    assert sorted(scripts.outside()) == ["scipy", "sklearn", "torch"]


def test_shell_scripts_modules_and_notebooks_are_followed(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!pip install x\n", "import seaborn\n"]},
        {"cell_type": "markdown", "source": ["import nothing"]},
    ]
    files = FolderFiles(
        write_tree(
            tmp_path,
            {
                "run.sh": "set -e\ncd work && python a.py\n",
                "work/a.py": "import numpy",
                "pkg/__init__.py": "",
                "pkg/__main__.py": "import pandas",
                "n.ipynb": json.dumps({"cells": cells}),
            },
        )
    )
    assert list(read_scripts("bash run.sh", files).outside()) == ["numpy"]
    assert list(read_scripts("python -m pkg {x}", files).outside()) == ["pandas"]
    assert list(read_scripts("papermill n.ipynb out.ipynb", files).outside()) == ["seaborn"]
    assert set(read_all(files).outside()) == {"numpy", "pandas", "seaborn"}


def test_a_module_elsewhere_in_the_repository_is_known_as_such(make_repository: MakeRepository) -> None:
    root = make_repository(
        {"a/train.py": "import common\nimport stranger\n", "lib/common/__init__.py": "", "a/MLproject": "name: a"}
    )
    scripts = read_scripts("python train.py", FolderFiles(root / "a"))
    assert set(scripts.outside()) == {"common", "stranger"}
    assert scripts.elsewhere == {"common": "../lib"}
