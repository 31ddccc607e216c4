"""Tests the removal of files that a killed process left half-written in the home."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.base.files import write_atomically
from runner.base.partial_files import AGE, remove_partial_files
from runner.settings import Home
from runner.source.cleaning import collect_garbage
from runner.source.durable import write_durably
from tests.conftest import ROOT

# The file is complete but not yet renamed when the process ends: rename and fsync are where it is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
import {module}
def stop(*_args, **_keys):
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = stop
{module}.{function}(Path(sys.argv[1]), b"half")
"""
WRITERS = {"runner.base.files": write_atomically, "runner.source.durable": write_durably}
PLACES = (
    "proj.json",
    "locks/a.txt",
    "locks/" + "n" * 240,
    "cache/code/4df8af3bc6b0e55f",
    "images/trees/0123",
    "indexes/1234/state",
    "vault.git/config",
    "vault.git/info/attributes",
    "vault.git/objects/pack/pack-1.idx",
    "vault.git/refs/runs/run1",
)


def kill_while_writing(module: str, path: Path) -> Path:
    """Kill a process before its file has its name; return the file that it leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = set(path.parent.iterdir())
    code = KILLED.format(module=module, function=WRITERS[module].__name__)
    ended = subprocess.run(
        [sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    ).returncode
    assert ended == -signal.SIGKILL
    (left,) = set(path.parent.iterdir()) - before
    return left


@pytest.mark.parametrize("module", WRITERS)
def test_files_of_killed_writers_are_removed_after_a_day(home: Home, module: str) -> None:
    left = [kill_while_writing(module, home.root / place) for place in PLACES]
    for place in PLACES:
        WRITERS[module](home.root / place, b"whole")
    assert remove_partial_files(home.root) == 0
    assert all(path.exists() for path in left)
    assert remove_partial_files(home.root, time.time() + AGE + 60) == len(PLACES)
    assert not any(path.exists() for path in left)
    assert [(home.root / place).read_bytes() for place in PLACES] == [b"whole"] * len(PLACES)


@pytest.mark.parametrize("place", ["images/building-0123456789abcdef", "mirrors/.new-0123456789abcdef"])
def test_folders_of_killed_commands_are_removed_after_a_day(home: Home, place: str) -> None:
    folder = home.root / place
    (folder / "context").mkdir(parents=True)
    (folder / "context" / "f").write_text("x")
    collect_garbage(home)
    assert folder.exists()
    os.utime(folder, (0, 0))
    collect_garbage(home)
    assert not folder.exists()


def test_other_files_stay(home: Home, tmp_path: Path) -> None:
    """Neither the files of runs nor those behind a link are looked at."""
    outside = tmp_path / "outside" / ".proj-partial-0123456789abcdef"
    inside = home.run("a" * 32) / "artifacts" / ".proj-partial-0123456789abcdef"
    other = home.root / "locks" / ".proj-partial-notes.txt"
    for path in (outside, inside, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (home.root / "cache").symlink_to(outside.parent)
    assert remove_partial_files(home.root, time.time() + AGE + 60) == 0
    assert all(path.exists() for path in (outside, inside, other))
