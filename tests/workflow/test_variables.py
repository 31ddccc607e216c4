"""Variables reach the command of a run and leave no trace in what is recorded."""

from pathlib import Path

import pytest

from runner.settings import Home
from tests.conftest import MakeRepository, RunProj

SCRIPT = "import os\nfor name in ('HF_TOKEN', 'DB', 'MODE', 'N'):\n    print(name, os.environ.get(name))\n"
MANIFEST = """entry_points:
  main:
    env: [HF_TOKEN, {MODE: fast}]
    env_file: .env
    command: python a.py
"""
FILES = {"MLproject": MANIFEST, "a.py": SCRIPT, ".gitignore": ".env\n"}


def trace(home: Home, *values: str) -> list[Path]:
    files = [path for path in home.root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(value.encode() in path.read_bytes() for value in values)]


def test_values_of_the_caller_and_of_a_file_are_passed_and_masked(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    root = make_repository(FILES)
    (root / ".env").write_text("DB=user:qwertz@host\nHF_TOKEN=file\nMODE=slow\nN=4\n")
    result = proj("run", ".", "--env-manager", "local", cwd=root, HF_TOKEN="asdfgh-caller")
    assert result.code == 0, result.err
    assert result.out == "HF_TOKEN ***\nDB ***\nMODE fast\nN 4\n"
    assert trace(home, "qwertz@host", "asdfgh-caller") == []


def test_a_missing_variable_is_reported_and_a_missing_file_stops_the_run(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository(FILES)
    result = proj("run", ".", "--env-manager", "local", cwd=root)
    assert (result.code, result.out) == (1, "")
    assert "the env_file '.env' does not exist" in result.err
    (root / ".env").write_text("DB=1\n")
    result = proj("run", ".", "--env-manager", "local", cwd=root)
    assert result.code == 0
    assert "the variable HF_TOKEN, which 'main' passes on, is not set" in result.err


@pytest.mark.parametrize("is_ignored", [True, False])
def test_a_file_that_git_does_not_ignore_is_warned_of(
    proj: RunProj, make_repository: MakeRepository, is_ignored: bool
) -> None:
    root = make_repository(FILES if is_ignored else {**FILES, ".gitignore": "*.pyc\n"})
    (root / ".env").write_text("DB=1\n")
    result = proj("run", ".", "--env-manager", "local", cwd=root, HF_TOKEN="x")
    assert result.code == 0
    assert ("add it to .gitignore" in result.err) is not is_ignored
