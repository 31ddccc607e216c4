"""Repairs of declared environments, and inference of undeclared ones."""

from pathlib import Path

import pytest

from runner.analysis.scripts import Scripts, read_scripts
from runner.environments.declare.containers.dockerfiles import read_dockerfile
from runner.environments.declare.spec import read_spec
from runner.environments.model import Interpreter, Lock
from runner.environments.repair.fallback import _nearest
from runner.environments.repair.import_names import RENAMED, package_of, provides
from runner.environments.repair.inference import infer_spec
from runner.environments.repair.missing import (
    FailedImport,
    explain_failed_import,
    failed_import,
    missing_import_warnings,
    missing_imports,
    package_to_add,
)
from runner.environments.repair.repairs import repair_spec
from runner.environments.specs import EnvironmentSpec, PythonSpec
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind
from tests.conftest import MakeRepository, write_tree

PYTHON = Interpreter(path="/python", version="3.10.1", implementation="cpython", platform="linux-x86_64")


def repaired(tmp_path: Path, requirements: str, code: str = "", **files: str) -> EnvironmentSpec:
    root = write_tree(tmp_path, {"requirements.txt": requirements, "t.py": code, **files})
    project = FolderFiles(root)
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt")
    return repair_spec(read_spec(declaration, project), read_scripts("python t.py", project), project)


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("sklearn", "scikit-learn"),
        ("sklearn==0.0", "scikit-learn"),
        ("sklearn==0.0.post1", "scikit-learn"),
        ("sklearn==0.24.2", "scikit-learn==0.24.2"),
        ("bs4==0.0.1", "beautifulsoup4"),
        ("pytorch>=1.2", "torch>=1.2"),
        ("PIL", "pillow"),
    ],
)
def test_stubs_are_replaced_by_the_intended_package(tmp_path: Path, line: str, after: str) -> None:
    spec = repaired(tmp_path, f"{line}\nsix\n")
    assert spec.requirements == (after, "six")
    assert len(spec.repairs) == 1
    assert line in spec.repairs[0]


@pytest.mark.parametrize("name", ["pickle", "argparse", "os", "enum34", "typing", "Pathlib", "distutils"])
def test_modules_of_the_standard_library_are_removed(tmp_path: Path, name: str) -> None:
    spec = repaired(tmp_path, f"{name}\nsix\n")
    assert spec.requirements == ("six",)
    assert name in spec.repairs[0]


@pytest.mark.parametrize(
    "line", ["dataclasses", "futures ; python_version < '3'", "scikit-learn==1.0", "six @ https://host.invalid/six.zip"]
)
def test_ambiguous_names_are_kept(tmp_path: Path, line: str) -> None:
    spec = repaired(tmp_path, f"{line}\n")
    assert spec.requirements == (line,)
    assert spec.repairs == ()


def test_python_among_the_requirements_is_the_interpreter(tmp_path: Path) -> None:
    spec = repaired(tmp_path, "python==3.8\nsix\n")
    assert (spec.python, spec.requirements) == ("3.8", ("six",))


def test_mlflow_is_added_only_if_imported_and_not_provided(tmp_path: Path) -> None:
    spec = repaired(tmp_path, "six\n", "import mlflow.sklearn\n")
    assert spec.requirements == ("six", "mlflow")
    assert "t.py:1" in spec.repairs[0]
    assert repaired(tmp_path, "mlflow-skinny==2.0\n", "import mlflow\n").repairs == ()
    assert repaired(tmp_path, "six\n", "import json\n").repairs == ()
    assert repaired(tmp_path, "six\n", "try:\n    import mlflow\nexcept ImportError:\n    pass\n").repairs == ()
    package = {"pyproject.toml": "[project]\nname='x'\ndependencies=['mlflow']\n"}
    assert repaired(tmp_path, "-e .\n", "import mlflow\n", **package).repairs == ()


def test_a_lock_is_never_repaired(tmp_path: Path) -> None:
    line = f"sklearn==0.0 --hash=sha256:{'0' * 64}"
    spec = repaired(tmp_path, line, "import mlflow\n")
    assert spec.repairs == ()
    assert spec.is_locked


def inferred(root: Path, kind: EnvironmentKind = EnvironmentKind.NONE, path: str | None = None) -> EnvironmentSpec:
    files = FolderFiles(root)
    declaration = EnvironmentDeclaration(kind=kind, path=path)
    return infer_spec(declaration, files, read_scripts("python t.py", files), "why")


def test_a_file_of_a_near_name_comes_first(tmp_path: Path) -> None:
    conda = "channels: [defaults]\ndependencies: [python=3.8, six]\n"
    write_tree(tmp_path, {"conda.yml": conda, "requirements.txt": "tabulate\n", "a_env.yaml": "dependencies: [x]\n"})
    spec = inferred(tmp_path, EnvironmentKind.CONDA_ENV, "conda.yaml")
    assert (spec.requirements, spec.python) == (("six",), "3.8")
    assert spec.repairs == ("why; 'conda.yml' is used",)


def test_requirements_come_before_those_for_development(tmp_path: Path) -> None:
    write_tree(tmp_path, {"requirements-dev.txt": "pytest\n", "requirements_x.txt": "six\n", "t.py": "import six"})
    assert inferred(tmp_path).requirements == ("six",)


def test_a_file_of_the_root_is_used_if_it_fits_the_code(make_repository: MakeRepository) -> None:
    root = make_repository(
        {"requirements.txt": "numpy\nsix\n", "a/t.py": "import six", "b/t.py": "import torch, pandas"}
    )
    assert inferred(root / "a").repairs == ("why; '../requirements.txt' is used",)
    assert inferred(root / "b").requirements == ("torch", "pandas")


def test_a_dockerfile_provides_packages_and_python(make_repository: MakeRepository) -> None:
    docker = (
        "ARG V=1.16.0\nFROM registry.invalid/python:3.9-slim\n# RUN pip install no\nCOPY reqs.txt /app/reqs.txt\n"
        "RUN apt-get install -y git && pip install --no-cache-dir -i https://host.invalid six==${V} \\\n"
        "    'tabulate>=0.8' && rm -rf x\nRUN python -m pip install -r /app/reqs.txt\n"
    )
    root = make_repository({"Dockerfile": docker, "reqs.txt": "attrs\n", "sub/t.py": "import six"})
    spec = inferred(root / "sub", EnvironmentKind.DOCKER_ENV)
    assert spec.requirements == ("six==1.16.0", "tabulate>=0.8", "attrs")
    assert spec.python == "3.9"
    assert spec.repairs == ("why; the packages that '../Dockerfile' installs are used",)
    assert read_dockerfile("nothing", FolderFiles(root)).is_empty


def test_the_dockerfile_beside_the_manifest_is_what_docker_env_declares(make_repository: MakeRepository) -> None:
    docker = "FROM python:3.9\nRUN pip install tabulate\n"
    root = make_repository(
        {
            "requirements.txt": "six\nattrs\n",
            "p/Dockerfile": docker,
            "p/requirements.txt": "six\n",
            "p/t.py": "import six",
            "q/Dockerfile": "FROM python:3.9\nCOPY . .\n",
            "q/t.py": "import six",
        }
    )
    spec = inferred(root / "p", EnvironmentKind.DOCKER_ENV)
    assert (spec.requirements, spec.python) == (("tabulate",), "3.9")
    assert spec.repairs == ("why; the packages that 'Dockerfile' installs are used",)
    assert inferred(root / "p").requirements == ("six",), "without docker_env the file beside it is nearer"
    assert inferred(root / "q", EnvironmentKind.DOCKER_ENV).requirements == ("six", "attrs"), "it installs nothing"
    assert inferred(root / "q", EnvironmentKind.DOCKER_ENV).python == "3.9"


INSIDE = """Traceback (most recent call last):
  File "t.py", line 1, in <module>
    import sklearn
  File "/env/lib/python3.6/site-packages/sklearn/__init__.py", line 134, in <module>
    from .base import clone
  File "/env/lib/python3.6/importlib/__init__.py", line 126, in import_module
  File "<frozen importlib._bootstrap>", line 941, in _gcd_import
ModuleNotFoundError: No module named 'scipy'
"""


@pytest.mark.parametrize(
    ("log", "prefix", "inside"),
    [
        (INSIDE, "/env", "sklearn"),
        (INSIDE, "/other", None),
        (INSIDE, None, None),
        (INSIDE.replace("/env/lib/python3.6/site-packages/sklearn", "/run/project/sklearn"), "/env", None),
        (INSIDE.replace("No module named 'scipy'", "Missing optional dependency 'scipy'."), "/env", None),
        (INSIDE.replace("sklearn/__init__.py", "six.py"), "/env", "six"),
        ("ModuleNotFoundError: No module named 'scipy'", "/env", None),
    ],
)
def test_a_failed_import_is_inside_a_package_where_its_own_code_has_it(
    log: str, prefix: str | None, inside: str | None
) -> None:
    assert failed_import(log, prefix) == FailedImport("scipy", inside)


def test_release_lines_are_tried_the_nearest_first() -> None:
    versions = [f"3.{minor}.0" for minor in range(6, 15)]
    here = [Interpreter(path=f"/{v}", version=v, implementation="cpython", platform="x") for v in versions]
    chosen = here[-1]
    assert [item.version for item in _nearest(chosen, here)] == versions[-2::-1]
    assert {item.line for item in _nearest(here[4], here)} == {item.line for item in here} - {here[4].line}


def test_known_imports_are_the_last_resort(tmp_path: Path) -> None:
    write_tree(tmp_path, {"t.py": "import sklearn, common_of_mine, yaml, os\n"})
    assert inferred(tmp_path).requirements == ("scikit-learn", "pyyaml")
    write_tree(tmp_path, {"t.py": "import os\n"})
    spec = inferred(tmp_path)
    assert spec.is_empty
    assert spec.repairs == ()


def lock(*names: str) -> Lock:
    return Lock(text="".join(f"{name}==1.0\n" for name in names), digest="", interpreter=PYTHON)


def test_missing_imports_are_named_with_package_and_line(tmp_path: Path) -> None:
    code = "import pandas, cv2, tabulate, own, nowhere\nimport pkg_resources\n"
    write_tree(tmp_path, {"t.py": code, "lib/own.py": ""})
    scripts = read_scripts("python t.py", FolderFiles(tmp_path))
    spec = PythonSpec(kind=EnvironmentKind.PYTHON_ENV, file="python_env.yaml")
    missing = missing_imports(scripts, spec, lock("pandas", "opencv-contrib-python", "setuptools"))
    assert [(one.module, one.package) for one in missing] == [("tabulate", "tabulate"), ("nowhere", None)]
    known, unknown = missing_import_warnings(missing, spec)
    assert "`- tabulate` to `dependencies:` of python_env.yaml" in (known.hint or "")
    assert "--add-missing" in (known.hint or "")
    assert "nowhere" in unknown.message
    assert "own" not in unknown.message.replace("nowhere", "").replace("known", "")


@pytest.mark.parametrize(
    ("log", "module", "package"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'yaml'\n", "yaml", "pyyaml"),
        ("ModuleNotFoundError: No module named 'pkg_resources'\nfarewell\n", "pkg_resources", "setuptools"),
        ("ModuleNotFoundError: No module named 'distutils'", "distutils", "setuptools"),
        ("ImportError: Missing optional dependency 'tabulate'.  Use pip", "tabulate", "tabulate"),
        ("ModuleNotFoundError: No module named 'common'", "common", None),
    ],
)
def test_a_failed_import_is_explained(log: str, module: str, package: str | None) -> None:
    failed = failed_import(log)
    assert failed == FailedImport(module)
    assert package_to_add(failed, Scripts()) == package
    event = explain_failed_import(failed, PythonSpec(), Scripts(), ["pip"])
    assert module in event.message
    assert (package or "No package") in f"{event.message} {event.hint}"


def test_an_installed_package_that_lacks_a_module_is_not_offered_again() -> None:
    event = explain_failed_import(FailedImport("sklearn.externals"), PythonSpec(), Scripts(), ["scikit-learn"])
    assert "another version" in event.message
    assert failed_import("ModuleNotFoundError: No module named 'a'\n" + "x" * 9000) is None


def test_a_module_of_the_repository_is_never_a_package() -> None:
    assert package_to_add(FailedImport("common"), Scripts(elsewhere={"common": "lib"})) is None


def test_the_tables_agree() -> None:
    assert package_of("google.cloud.bigquery") == "google-cloud-bigquery"
    assert package_of("mpl_toolkits.mplot3d") == "matplotlib"
    assert provides("scikit_learn", "sklearn")
    assert provides("tensorflow-cpu", "tensorflow")
    assert not provides("pandas", "numpy")
    assert all(new not in RENAMED for new in RENAMED.values())
