"""Requirements in the files of packaging tools, which are parsed without running them."""

import json
from pathlib import Path

import pytest

from runner.analysis.scripts import read_scripts
from runner.environments.declare.metadata_files import read_metadata
from runner.environments.declare.poetry import translate
from runner.environments.repair.inference import infer_spec
from runner.environments.specs import EnvironmentSpec
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration
from tests.conftest import MakeRepository, RunProj, write_tree

POETRY = """
[tool.poetry.dependencies]
python = "^3.8"
six = "^1.12"
tabulate = {version = "~0.8.9", extras = ["widechars"], python = ">=3.7"}
maybe = {version = "*", optional = true}
mine = {path = "lib/mine", develop = true}
far = {git = "https://host.invalid/far.git", rev = "abc"}
both = [{version = "1.0", python = "<3.9"}, {version = "2.0", markers = "sys_platform == 'linux'"}]

[tool.poetry.group.dev.dependencies]
pytest = "*"
"""

POETRY_LOCK = """
[[package]]
name = "six"
version = "1.16.0"

[[package]]
name = "both"
version = "1.0"

[[package]]
name = "both"
version = "2.0"

[[package]]
name = "far"
version = "3.0"
[package.source]
type = "git"
url = "https://host.invalid/far.git"
"""

PIPFILE = """
[[source]]
url = "https://index.invalid/simple"
name = "main"

[packages]
six = "*"
pywin32 = {version = ">=300", sys_platform = "== 'win32'"}
wheel-of-mine = {file = "https://host.invalid/x-1-py3-none-any.whl"}

[dev-packages]
pytest = "*"

[requires]
python_version = "3.9"
"""
PIPFILE_LOCK = {
    "_meta": {"requires": {"python_version": "3.9"}},
    "default": {"six": {"version": "==1.16.0", "hashes": ["sha256:0"]}, "deep": {"version": "==2", "extras": ["a"]}},
    "develop": {"pytest": {"version": "==7.0"}},
}

SETUP_PY = """
import os, setuptools
os.remove("t.py")
NEEDED = ["six>=1.12", "tabulate"]
setuptools.setup(name="x", python_requires=">=3.7", install_requires=NEEDED + ["attrs"], extras_require={"a": ["b"]})
"""


def read(tmp_path: Path, path: str, **others: str) -> EnvironmentSpec | None:
    return read_metadata(path, FolderFiles(write_tree(tmp_path, others)))


@pytest.mark.parametrize(
    ("constraint", "after"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.4", "~=1.4"),
        ("1.2.*", "==1.2.*"),
        ("*", ""),
        ("2.0", "==2.0"),
        (">=1.0, <2.0, !=1.5", ">=1.0,<2.0,!=1.5"),
        (">=1.0 <2.0", ">=1.0,<2.0"),
        ("^2.7 || ^3.6", ">=3.6,<4"),
        ("2.1.0rc1", "==2.1.0rc1"),
    ],
)
def test_poetry_constraints_translate_to_pip_constraints(constraint: str, after: str) -> None:
    assert translate(constraint) == after


def test_poetry(tmp_path: Path) -> None:
    files = {"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK, "lib/mine/pyproject.toml": ""}
    spec = read(tmp_path, "pyproject.toml", **files)
    assert spec is not None
    assert spec.python == ">=3.8,<4"
    assert spec.requirements == (
        "six>=1.12,<2",
        "tabulate[widechars]>=0.8.9,<0.9 ; python_version >= '3.7'",
        "far @ git+https://host.invalid/far.git@abc",
        "both==1.0 ; python_version < '3.9'",
        "both==2.0 ; (sys_platform == 'linux')",
    )
    assert [(one.path, one.editable) for one in spec.local_packages] == [("lib/mine", True)]
    assert spec.constraints == ("six==1.16.0",)


def test_the_standard_table(tmp_path: Path) -> None:
    text = "[project]\nname = 'x'\nrequires-python = '>=3.9'\ndependencies = ['six', 'tabulate>=0.8']\n"
    spec = read(tmp_path, "pyproject.toml", **{"pyproject.toml": text})
    assert spec is not None
    assert (spec.python, spec.requirements) == (">=3.9", ("six", "tabulate>=0.8"))


def test_pipenv(tmp_path: Path) -> None:
    lock = json.dumps(PIPFILE_LOCK)
    spec = read(tmp_path, "Pipfile", Pipfile=PIPFILE, **{"Pipfile.lock": lock})
    assert spec is not None
    assert spec.python == "3.9"
    assert spec.requirements == (
        "six",
        "pywin32>=300 ; sys_platform == 'win32'",
        "wheel-of-mine @ https://host.invalid/x-1-py3-none-any.whl",
    )
    assert spec.constraints == ("six==1.16.0", "deep==2")
    alone = read(tmp_path / "alone", "Pipfile.lock", **{"Pipfile.lock": lock})
    assert alone is not None
    assert alone.requirements == ("six==1.16.0", "deep[a]==2")


def test_setup_py_is_parsed_without_running_it(tmp_path: Path) -> None:
    spec = read(tmp_path, "setup.py", **{"setup.py": SETUP_PY, "t.py": ""})
    assert spec is not None
    assert (spec.python, spec.requirements) == (">=3.7", ("six>=1.12", "tabulate", "attrs"))
    assert (tmp_path / "t.py").exists()


def test_setup_cfg(tmp_path: Path) -> None:
    text = "[options]\npython_requires = >=3.8\ninstall_requires =\n    six ; python_version > '3'\n    tabulate\n"
    spec = read(tmp_path, "setup.cfg", **{"setup.cfg": text})
    assert spec is not None
    assert (spec.python, spec.requirements) == (">=3.8", ("six ; python_version > '3'", "tabulate"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("setup.py", "from setuptools import setup\nsetup(install_requires=open('r.txt').read().split())\n"),
        ("setup.py", "from setuptools import setup\nsetup(install_requires=[f'six=={1}'])\n"),
        ("setup.py", "setup(install_requires=A)\nA = A\n"),
        ("setup.py", "print 'old'\n"),
        ("setup.cfg", "[options]\ninstall_requires = file: r.txt\n"),
        ("setup.cfg", "no section\n"),
        ("setup.cfg", "[options]\ninstall_requires =\n    six\n" + "\\\n" * 60_000),
        ("setup.cfg", "[options]\n    python_requires = >=3\n" + "  faulty\n" * 20_000),
        ("pyproject.toml", "[tool.black]\nline-length = 99\n"),
        ("pyproject.toml", "[project\n"),
        ("pyproject.toml", "[project]\nrequires-python = 'new'\ndependencies = ['six']\n"),
        ("pyproject.toml", "[project]\ndependencies = 3\n"),
        ("Pipfile.lock", "{}"),
        ("Pipfile", "packages = 3"),
    ],
)
def test_values_computed_at_run_time_are_ignored(tmp_path: Path, path: str, text: str) -> None:
    assert read(tmp_path, path, **{path: text}) is None


def test_metadata_files_rank_between_environment_files_and_imports(make_repository: MakeRepository) -> None:
    code = {"t.py": "import six, yaml"}
    root = make_repository({"pyproject.toml": POETRY.replace("mine =", "# "), "poetry.lock": POETRY_LOCK, **code})
    files = FolderFiles(root)
    declaration = EnvironmentDeclaration()
    spec = infer_spec(declaration, files, read_scripts("python t.py", files), "why")
    assert spec.repairs == (
        "why; the requirements in 'pyproject.toml' are used, in the versions of the lock beside it",
    )
    write_tree(root, {"requirements-all.txt": "six\n"})
    spec = infer_spec(declaration, files, read_scripts("python t.py", files), "why")
    assert spec.repairs == ("why; 'requirements-all.txt' is used",)


@pytest.mark.env
def test_a_poetry_project_runs_with_its_locked_versions(proj: RunProj, make_repository: MakeRepository) -> None:
    manifest = "entry_points:\n  main:\n    command: python t.py\n"
    table = '[tool.poetry.dependencies]\npython = ">=3.8"\ntabulate = "^0.8"\n'
    lock = '[[package]]\nname = "tabulate"\nversion = "0.8.9"\n'
    code = "import tabulate\nassert tabulate.__version__ == '0.8.9'\n"
    root = make_repository({"MLproject": manifest, "pyproject.toml": table, "poetry.lock": lock, "t.py": code})
    result = proj("run", ".", "--json", "--as-of", "2023-06-01", cwd=root)
    assert result.code == 0, result.err
    assert "the requirements in 'pyproject.toml' are used" in result.json["environment"]["repairs"][0]
    refused = proj("run", ".", "--no-repair", "--as-of", "2023-06-01", cwd=root)
    assert refused.code == 1
