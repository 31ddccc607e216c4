"""Freezing trees and laying them out."""

import os
import random
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from runner.settings import open_home
from runner.source.opening import open_source
from runner.source.run_folder import check_out
from runner.source.snapshot import Snapshot, keep_snapshot, take_snapshot
from tests.benchmarks.timing import Row, command, in_turns, seconds_of
from tests.conftest import git

LARGE = 2 * 2**30


def make_repository(root: Path, files: int, size: int) -> Path:
    """Make a repository of files of random text, ``size`` bytes each, a hundred to a folder."""
    text = random.Random(7)
    for number in range(files):
        path = root / f"folder{number // 100}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.randbytes(size // 2).hex().encode())
    (root / "MLproject").write_text("name: tree\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "--quiet", "--message=first")
    return root


def freeze(root: Path) -> Snapshot:
    """Open a folder and freeze it."""
    home = open_home()
    return take_snapshot(open_source(str(root), None, home, lambda _event: None), home, lambda _event: None)


def snapshot(workdir: Path) -> Iterator[Row]:
    """Measure the snapshot of a clean tree against ``git status`` there."""
    for files in (1_000, 10_000, 50_000):
        root = make_repository(workdir / str(files), files, 400)
        first = seconds_of(partial(freeze, root))
        took, limit = in_turns(partial(freeze, root), command(["git", "status"], root), rounds=5)
        yield Row(f"snapshot of {files:,} files, first time", first, "git status", limit)
        yield Row(f"snapshot of {files:,} files, again", took, "git status", limit)


def layout(workdir: Path) -> Iterator[Row]:
    """Measure laying out 5,000 files of 200 MB in all against ``git worktree add``."""
    root = make_repository(workdir / "project", 5_000, 40_000)
    home = open_home()
    source = open_source(str(root), None, home, lambda _event: None)
    limit = seconds_of(command(["git", "worktree", "add", "--detach", str(workdir / "tree")], root))

    def lay() -> None:
        run_id = uuid.uuid4().hex
        frozen = freeze(root)
        keep_snapshot(frozen, run_id, home)
        folder = check_out(frozen, source, run_id, home, lambda _event: None)
        folder.release(keep=False)

    for what in ("first time", "second time"):
        yield Row(f"snapshot and layout of 5,000 files, 200 MB, {what}", seconds_of(lay), "git worktree add", limit)
    (root / "folder0" / "file0.txt").write_text("changed")
    yield Row("the same after a change of one file", seconds_of(lay), "git worktree add", limit)
    took, limit = in_turns(lay, command(["git", "status"], root), rounds=5)
    yield Row("snapshot and layout of 5,000 files, 200 MB, again", took, "git status", limit)


def large(workdir: Path) -> Iterator[Row]:
    """Measure the snapshot of a tree with an untracked file of 2 GB against reading that file."""
    root = make_repository(workdir / "project", 10, 400)
    with (root / "large.bin").open("wb") as file:
        for _ in range(LARGE // 2**24):
            file.write(os.urandom(2**24))
    first = seconds_of(lambda: freeze(root))
    read = seconds_of(command(["sha256sum", "large.bin"], root))
    yield Row("snapshot with an untracked file of 2 GB, first time", first, "sha256sum", read)
    yield Row("snapshot with an untracked file of 2 GB, again", seconds_of(lambda: freeze(root)), "sha256sum", read)
