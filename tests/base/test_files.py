"""Removing folders, however deep they are."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.base.files import remove_tree
from runner.source.stalling import find_blocking_file
from tests.conftest import write_tree


def make_deep(top: Path, depth: int) -> None:
    """Make folders in each other, deeper than a path can say."""
    folder = os.open(top, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir("d" * 10, dir_fd=folder)
            inner = os.open("d" * 10, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(os.open(".gitignore", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    finally:
        os.close(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that goes with all that is in it: pytest itself can't remove deep folders."""
    yield tmp_path
    subprocess.run(["/bin/rm", "-rf", tmp_path], check=True)


@pytest.mark.parametrize("depth", [1, 100, 1500])
def test_folders_of_any_depth_are_removed(folder: Path, depth: int) -> None:
    outside = write_tree(folder / "outside", {"kept.txt": "x"})
    top = write_tree(folder / "top", {"a/b.txt": "x", ".proj-removed-1/c.txt": "x"})
    (top / "link").symlink_to(outside)
    make_deep(top, depth)
    remove_tree(top)
    assert not top.exists()
    assert (outside / "kept.txt").exists()


def test_deep_folders_are_searched_for_pipes(folder: Path) -> None:
    make_deep(folder, 1500)
    assert find_blocking_file(folder / "none", folder) is None
    os.mkfifo(folder / "dddddddddd/.gitattributes")
    assert ".gitattributes is a pipe" in str(find_blocking_file(folder / "none", folder))
