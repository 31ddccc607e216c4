"""Removing folders, however deep they are."""

import os
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


@pytest.mark.parametrize("depth", [1, 100, 1500])
def test_folders_of_any_depth_are_removed(tmp_path: Path, depth: int) -> None:
    outside = write_tree(tmp_path / "outside", {"kept.txt": "x"})
    top = write_tree(tmp_path / "top", {"a/b.txt": "x", ".proj-removed-1/c.txt": "x"})
    (top / "link").symlink_to(outside)
    make_deep(top, depth)
    remove_tree(top)
    assert not top.exists()
    assert (outside / "kept.txt").exists()


def test_deep_folders_are_searched_for_pipes(tmp_path: Path) -> None:
    make_deep(tmp_path, 1500)
    assert find_blocking_file(tmp_path / "none", tmp_path) is None
    os.mkfifo(tmp_path / "dddddddddd/.gitattributes")
    assert ".gitattributes is a pipe" in str(find_blocking_file(tmp_path / "none", tmp_path))
    remove_tree(tmp_path / "dddddddddd")
