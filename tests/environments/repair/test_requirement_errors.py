"""A failed resolution names the declared line, and what was probably meant, and no temporary file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.environments.model import EnvironmentRequest
from runner.environments.repair.requirement_errors import explain_unresolved
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.manifest import FolderFiles
from runner.settings import Home
from tests.conftest import write_tree

ABSENT = "cause: Because nunpy was not found in the package registry and you require nunpy==99.0, we can conclude that"


def explained(folder: Path, file: str, message: str) -> EnvironmentSetupError:
    error = EnvironmentSetupError(message, context="the whole output is in x.log", hint="Check the spelling.")
    spec = PythonSpec(file=file)
    explain_unresolved(error, EnvironmentRequest(spec=spec, home=Home(folder / "home"), files=FolderFiles(folder)))
    return error


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("requirements.txt", "# deps\nsix\nNunPy==99.0  # why\n", "requirements.txt, line 3: NunPy==99.0"),
        ("python_env.yaml", "dependencies:\n  - six\n  - nunpy==99.0\n", "python_env.yaml, line 3: nunpy==99.0"),
        ("conda.yaml", "dependencies:\n- pip:\n  - 'nunpy[all]==99.0'\n", "conda.yaml, line 3: nunpy[all]==99.0"),
        (
            "pyproject.toml",
            '[project]\ndependencies = ["six", "nunpy==99.0"]\n',
            'pyproject.toml, line 2: dependencies = ["six", "nunpy==99.0"]',
        ),
    ],
)
def test_the_declared_line_is_named(tmp_path: Path, file: str, content: str, line: str) -> None:
    write_tree(tmp_path, {file: content})
    error = explained(tmp_path, file, ABSENT)
    assert error.context == f"{line}\nthe whole output is in x.log"


def test_included_files_are_read_and_names_are_suggested(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "env/python_env.yaml": "dependencies:\n  - -r more.txt\n",
            "env/more.txt": "-r more.txt\nnunpy==99.0\n",
        },
    )
    error = explained(tmp_path, "env/python_env.yaml", ABSENT)
    assert (error.context or "").startswith("env/more.txt, line 2: nunpy==99.0\n")
    assert error.hint == "did you mean 'numpy'? Check the spelling."


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("there is no version of six==99.0 and you require six==99.0", True),
        ("cause: you require six<0.5 and six>=1, which are incompatible", True),
        ("ERROR: No matching distribution found for six==99.0", True),
        ("Because only six[abc]<1 is available", True),
        ("dns error: failed to lookup address", False),
        ("sixty packages", False),
    ],
)
def test_installers_name_packages_in_many_ways(tmp_path: Path, message: str, named: bool) -> None:
    write_tree(tmp_path, {"requirements.txt": "six==99.0\nsixty\n"})
    assert ("line 1: six==99.0" in (explained(tmp_path, "requirements.txt", message).context or "")) is named


def test_a_line_that_is_no_requirement_is_found_by_its_text(tmp_path: Path) -> None:
    write_tree(tmp_path, {"requirements.txt": "six\nnumpy===>1\n"})
    message = (
        "error: Couldn't parse requirement in `/tmp/proj-05dy4xzl/requirements.in` at position 114\n"
        "  cause: no such comparison operator\n         numpy===>1\n              ^^^^^"
    )
    error = explained(tmp_path, "requirements.txt", message)
    assert "proj-05dy4xzl" not in error.message
    assert error.message.startswith("error: Couldn't parse requirement in requirements.txt\n")
    assert (error.context or "").startswith("requirements.txt, line 2: numpy===>1\n")


def test_credentials_in_a_line_are_not_shown(tmp_path: Path) -> None:
    write_tree(tmp_path, {"requirements.txt": "nunpy @ https://me:hush-hush@host.invalid/nunpy.whl\n"})
    error = explained(tmp_path, "requirements.txt", ABSENT)
    assert "line 1: nunpy" in (error.context or "")
    assert "hush-hush" not in (error.context or "")


@given(st.text(max_size=200), st.binary(max_size=200))
def test_any_error_and_any_file_are_read(
    tmp_path_factory: pytest.TempPathFactory, message: str, content: bytes
) -> None:
    folder = write_tree(tmp_path_factory.mktemp("p"), {"requirements.txt": content})
    explained(folder, "requirements.txt", f"{message}\n{ABSENT}")
