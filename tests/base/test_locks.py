"""Locks between processes: each pair of kinds, killed holders, and waiting."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.base.locks import is_held, locked, open_lock, try_lock

HOLDER = """
import sys
from pathlib import Path
from runner.base.locks import locked

with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(path: Path, *, shared: bool) -> Iterator["subprocess.Popen[str]"]:
    """Hold a lock in another process during the block, or until its input is closed."""
    command = [sys.executable, "-c", HOLDER, str(path), "shared" if shared else "exclusive"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_only_two_shared_locks_go_together(tmp_path: Path, theirs: bool, mine: bool) -> None:
    path = tmp_path / "new" / "lock"
    with another_process(path, shared=theirs):
        assert is_held(path)
        descriptor = open_lock(path)
        assert try_lock(descriptor, shared=mine) is (theirs and mine)
        os.close(descriptor)
    assert not is_held(path)


@pytest.mark.parametrize("mine", [True, False])
def test_a_lock_is_waited_for(tmp_path: Path, mine: bool) -> None:
    path = tmp_path / "lock"
    waited: list[bool] = []
    with another_process(path, shared=False) as holder:

        def end() -> None:
            waited.append(True)
            assert holder.stdin is not None
            holder.stdin.close()

        with locked(path, shared=mine, waiting=end):
            assert is_held(path)
    assert waited == [True]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path, shared=False) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(path, waiting=pytest.fail):
            pass


def test_a_missing_file_is_not_locked_and_is_not_created(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
