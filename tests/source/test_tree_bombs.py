"""Repositories with few objects and more paths than any disk has room for."""

import subprocess
from pathlib import Path

import pytest

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source import transfer
from tests.conftest import MakeRepository
from tests.support.sources import freeze

LEVELS = 10


def make_tree(root: Path, lines: list[str]) -> str:
    done = subprocess.run(
        ["git", "mktree"], cwd=root, input="\n".join(lines), check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit_bomb(root: Path) -> str:
    """Commit a tree with ten folders at each of ten levels, that are all the same object; return the commit."""
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=root, input="x", check=True, capture_output=True, text=True
    )
    tree = make_tree(root, [f"100644 blob {blob.stdout.strip()}\tf{number}" for number in range(10)])
    for _ in range(LEVELS - 1):
        tree = make_tree(root, [f"040000 tree {tree}\td{number}" for number in range(10)])
    arguments = ["git", "commit-tree", "-m", "bomb", tree]
    commit = subprocess.run(arguments, cwd=root, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "update-ref", "refs/heads/bomb", commit], cwd=root, check=True)
    return commit


@pytest.mark.parametrize("version", ["bomb", "commit"])
@pytest.mark.parametrize("address", ["folder", "url"])
def test_a_tree_with_ten_billion_paths_is_refused(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch, version: str, address: str
) -> None:
    monkeypatch.setattr(transfer, "_LISTING", 3_000_000)
    root = make_repository({"MLproject": "name: x\n"})
    commit = commit_bomb(root)
    with pytest.raises(SnapshotError, match="git ls-tree") as caught:
        freeze(root if address == "folder" else root.as_uri(), home, commit if version == "commit" else version)
    assert "printed more than 3,000,000 bytes" in str(caught.value.context)
