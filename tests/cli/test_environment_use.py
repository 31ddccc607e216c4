"""``proj exec``, ``proj shell`` and ``proj env path``: the environment of runs, without a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.settings import Home
from tests.conftest import ROOT, MakeRepository, RunProj, start_proj, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

FILES = {
    "MLproject": (
        "entry_points:\n  main:\n    env: {COLOUR: blue}\n    command: python t.py\n"
        "  other:\n    environment: other.txt\n    command: python t.py\n"
    ),
    "requirements.txt": "six==1.16.0\n./own\n",
    "other.txt": "six==1.15.0\n",
    "own/pyproject.toml": '[project]\nname = "own"\nversion = "1"\n[tool.setuptools]\npy-modules = ["own"]\n',
    "own/own.py": "value = 7\n",
    "t.py": "import six; print(six.__version__)\n",
}


@pytest.mark.env
def test_the_environment_is_that_of_runs(make_repository: MakeRepository, proj: RunProj) -> None:
    root = make_repository(FILES)
    write_tree(root, {"sub/here.txt": ""})
    run = proj("run", ".", "--json", cwd=root).json["environment"]
    for folder in (root, root / "sub"):
        shown = proj("env", "path", cwd=folder)
        assert (shown.code, shown.out.strip()) == (0, run["prefix"]), shown.err
    found = proj("env", "path", "--json", cwd=root).json
    assert (found["prefix"], found["lock_digest"]) == (run["prefix"], run["lock_digest"])
    python = proj("env", "path", "--python", cwd=root).out.strip()
    assert python == found["python"]
    script = (
        "import sys, six, own, os; print(sys.prefix, six.__version__, own.value, os.environ['COLOUR'], os.getcwd())"
    )
    done = proj("exec", "--", "python", "-c", script, cwd=root / "sub")
    assert done.out.split() == [run["prefix"], "1.16.0", "7", "blue", str(root / "sub")], done.err
    other = proj("exec", "-e", "other", "--", "python", "t.py", cwd=root)
    assert other.out == "1.15.0\n"
    assert proj("list", "--json", "--local", cwd=root).json[0]["status"] == "FINISHED"
    assert len(proj("list", "--json", cwd=root).json) == 1, "only the run is recorded"


@pytest.mark.env
def test_exit_codes_and_arguments_are_those_of_the_command(make_repository: MakeRepository, proj: RunProj) -> None:
    root = make_repository({"MLproject": "name: x\n", "requirements.txt": "six\n"})
    assert proj("exec", "--", "python", "-c", "raise SystemExit(9)", cwd=root).code == 9
    words = proj("exec", "python", "-c", "import sys; print(sys.argv[1:])", "--json", "-e", "x y", cwd=root)
    assert words.out == "['--json', '-e', 'x y']\n"
    shell = subprocess.run(
        [sys.executable, "-m", "runner.cli.main", "shell"],
        cwd=root,
        input="python -c 'import six, sys; print(sys.prefix)'; exit 5\n",
        env={**os.environ, "SHELL": "/bin/bash", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shell.returncode, shell.stdout.strip()) == (5, proj("env", "path", cwd=root).out.strip()), shell.stderr


@pytest.mark.env
def test_the_environment_of_a_command_is_not_removed(
    make_repository: MakeRepository, proj: RunProj, home: Home
) -> None:
    root = make_repository({"MLproject": "name: x\n", "requirements.txt": "six\n"})
    gate = root / "gate"
    os.mkfifo(gate)
    process = start_proj("exec", "--", "python", "-c", "print(1, flush=True); open('gate').read()", cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    held = proj("env", "prune", "--keep-size", "0k", "-y", cwd=root)
    gate.write_text("go")
    assert process.wait() == 0
    process.communicate()
    assert "is in use and was not removed" in held.err
    assert "in use" not in proj("env", "prune", "--keep-size", "0k", "-y", cwd=root).err
    assert list(home.environments.glob("*/*/bin")) == []


@pytest.mark.env
def test_a_script_alone_has_the_environment_of_its_runs(tmp_path: Path, proj: RunProj) -> None:
    folder = write_tree(tmp_path / "p", {"a.py": "import json\n"})
    run = proj("run", "-e", "a.py", "--json", cwd=folder)
    assert run.code == 0, run.err
    shown = proj("env", "path", "-e", "a.py", "--json", cwd=folder).json
    assert shown["prefix"] == run.json["environment"]["prefix"]


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({"a.txt": ""}, ("exec", "--", "true"), "no MLproject and no file that declares an environment"),
        (
            {"b.py": "", "a.py": "", "c.txt": ""},
            ("env", "path"),
            "Name a script for the packages that it imports: -e a.py",
        ),
        ({"a.py": ""}, ("env", "path", "-e", "b.py"), "b.py"),
        ({"a.py": ""}, ("env", "path", "-e", "../a.py"), "a.py"),
        ({"MLproject": "docker_env: {image: x}\n"}, ("env", "path"), "is a container"),
        ({"MLproject": "name: x\n"}, ("exec", "-e", "nope", "--", "true"), "nope"),
    ],
)
def test_what_has_no_environment_is_said(
    tmp_path: Path, proj: RunProj, files: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    done = proj(*words, cwd=write_tree(tmp_path / "p", files), PROJ_OFFLINE="1")
    assert done.code in (1, 2)
    assert message in done.err
