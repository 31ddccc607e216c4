"""A clean room for every test: its own home of proj, its own git configuration, nothing of the caller's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from hypothesis import settings

from runner.settings import Home
from runner.store.database import Database

settings.register_profile("proj", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("proj")

ROOT = Path(__file__).parent.parent
LEAKS = ("PROJ_", "MLFLOW_", "GIT_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_")


QUICK = ("analysis", "base", "environments/declare", "manifest", "provenance", "runs", "store")
"""Folders whose tests are the loop of a minute: ``pytest -m quick``."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the quick loop: those of some folders that are not marked as anything else."""
    others = {"slow", "env", "mlflow", "container"}
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parent.as_posix() if item.path.is_relative_to(ROOT) else ""
        if folder in QUICK and not others & {mark.name for mark in item.iter_markers()}:
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def clean_room(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty PROJ_HOME and HOME-independent git, and take the caller's variables away."""
    workdir = tmp_path_factory.mktemp("isolated")
    for name in tuple(os.environ):
        if name.startswith(LEAKS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROJ_HOME", str(workdir / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(workdir / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (workdir / "gitconfig").write_text("[user]\n\tname = Tester\n\temail = tester@example.invalid\n", encoding="utf-8")
    return workdir


@pytest.fixture
def home(clean_room: Path) -> Home:
    """Return the home of proj that the test has to itself."""
    return Home(clean_room / "home")


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    """Return the open database of the home."""
    with closing(Database.open(home.database)) as database:
        yield database


@pytest.fixture
def shared_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests of one machine share what was downloaded."""
    monkeypatch.setenv("UV_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"proj-tests-uv-{os.getuid()}"))


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


def commit_all(folder: Path) -> None:
    """Make a git repository of a folder, with one commit of all files."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")


def unavailable(reason: str) -> BaseException:
    """Return what to raise where this machine lacks something: a skip, or in CI, which installs it, a failure."""
    if os.environ.get("CI"):
        return pytest.fail.Exception(f"CI must have it: {reason}")
    return pytest.skip.Exception(reason)


MakeRepository = Callable[..., Path]


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Return a function that makes a git repository with one commit from path → content."""

    def make(files: Mapping[str, str | bytes], name: str = "project") -> Path:
        root = write_tree(tmp_path / name, files)
        commit_all(root)
        return root

    return make


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The data that the command printed."""
        return json.loads(self.out)


RunProj = Callable[..., Result]


def start_proj(
    *words: str, cwd: Path, stderr: IO[str] | int = subprocess.PIPE, **variables: str
) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own, as a user's shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": _path_with_python(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def _path_with_python() -> str:
    """Return PATH with this interpreter's folder first: not every system has a program named python."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture
def proj(tmp_path: Path) -> RunProj:
    """Return a function that runs the command line to its end in a process of its own."""

    def run(*words: str, cwd: Path = tmp_path, **variables: str) -> Result:
        process = start_proj(*words, cwd=cwd, **variables)
        out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    return run
