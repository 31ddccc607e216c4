"""A clean room for every test: its own home of proj, its own git configuration, nothing of the caller's."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runner.settings import Home

LEAKS = ("PROJ_", "MLFLOW_", "GIT_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_")


@pytest.fixture(autouse=True)
def clean_room(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty PROJ_HOME and HOME-independent git, and take the caller's variables away."""
    room = tmp_path_factory.mktemp("room")
    for name in tuple(os.environ):
        if name.startswith(LEAKS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROJ_HOME", str(room / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(room / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (room / "gitconfig").write_text("[user]\n\tname = Tester\n\temail = tester@example.invalid\n", encoding="utf-8")
    return room


@pytest.fixture
def home(clean_room: Path) -> Home:
    """Return the home of proj that the test has to itself."""
    return Home(clean_room / "home")


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files given as path → content below ``root``, making folders as needed."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it printed."""
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


MakeRepository = Callable[..., Path]


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Return a function that makes a git repository with one commit from path → content."""

    def make(files: Mapping[str, str | bytes], name: str = "project") -> Path:
        root = write_tree(tmp_path / name, files)
        git(root, "init", "--quiet", "--initial-branch=main")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message=first")
        return root

    return make
