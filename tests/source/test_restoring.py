"""Getting code back after everything else is gone: probes 3, 6 and 8."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.cleaning import collect_garbage
from runner.source.restoring import checkout, difference, find_tree_in_history, find_trees_in_history
from runner.source.run_folder import check_out
from runner.source.snapshot import keep_snapshot
from runner.source.snapshot_store import has_object, release_snapshot
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said, fingerprint, freeze, kept


def without_git(root: Path) -> dict[str, str]:
    """Say what every file is; git knows no empty folders."""
    found = fingerprint(root).items()
    return {name: what for name, what in found if name.split("/")[0] != ".git" and not what.startswith("4")}


@pytest.mark.parametrize("state", ["clean", "dirty", "version", "bare", "plain"])
def test_a_tree_comes_back_when_its_repository_is_gone(
    make_repository: MakeRepository, tmp_path: Path, home: Home, state: str
) -> None:
    root = make_repository({"a.py": "1", "sub/b.bin": b"\0\xff\r\n", "tool": "x", ".gitattributes": "* text=auto\n"})
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("sub/b.bin")
    git(root, "add", ".")
    git(root, "commit", "-qm", "more")
    address, version = root, None
    if state == "dirty":
        write_tree(root, {"a.py": "2", "new und größer.txt": "3"})
        git(root, "mv", "sub/b.bin", "moved.bin")
    expected = without_git(root)
    if state == "version":
        version = git(root, "rev-parse", "--short", "HEAD")
        write_tree(root, {"a.py": "other", "untracked": "x"})
    if state == "bare":
        git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
        address = tmp_path / "bare.git"
    if state == "plain":
        shutil.rmtree(root / ".git")
    before = fingerprint(root)
    kept(address, home, "run1", version)
    assert fingerprint(root) == before
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "bare.git", ignore_errors=True)
    shutil.rmtree(home.mirrors, ignore_errors=True)
    collect_garbage(home)
    checkout("run1", tmp_path / "back", home, Said())
    assert without_git(tmp_path / "back") == expected


def test_a_rewritten_history_does_not_matter(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"a.py": "2"})
    kept(root, home, "run1")
    git(root, "commit", "-q", "--amend", "-am", "other")
    git(root, "reflog", "expire", "--expire=now", "--all")
    git(root, "gc", "-q", "--prune=now")
    assert b"-1\n" in difference("run1", home)
    checkout("run1", tmp_path / "back", home, Said())
    assert (tmp_path / "back" / "a.py").read_text(encoding="utf-8") == "2"


def test_nothing_is_overwritten(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    kept(root, home, "run1")
    (tmp_path / "empty").mkdir()
    checkout("run1", tmp_path / "empty", home, Said())
    for place in (tmp_path / "empty", root / "a.py"):
        with pytest.raises(SnapshotError, match="not an empty folder"):
            checkout("run1", place, home, Said())
    for run_id in ("none", "../../x", "-x"):
        with pytest.raises(SnapshotError):
            checkout(run_id, tmp_path / "other", home, Said())
    assert not (tmp_path / "other").exists()


def test_the_difference_of_a_dirty_run_applies_to_its_commit(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    root = make_repository({"a.py": "1\n", "pic.bin": b"\0\1\2", "gone.py": "x\n"})
    git(root, "config", "diff.external", f"touch {tmp_path}/sprung")
    write_tree(root, {"a.py": "2\n", "pic.bin": b"\0\1\3" * 100, "neu.py": "3\n"})
    (root / "gone.py").unlink()
    (root / "a.py").chmod(0o755)
    snapshot = kept(root, home, "run1")
    patch = difference("run1", home)
    git(root, "clone", "-q", str(root), str(tmp_path / "clone"))
    subprocess.run(["git", "apply", "--index"], cwd=tmp_path / "clone", input=patch, check=True)
    assert git(tmp_path / "clone", "write-tree") == snapshot.code.tree
    assert not (tmp_path / "sprung").exists()


def test_a_clean_run_has_no_difference(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    kept(root, home, "run1")
    assert difference("run1", home) == b""


def test_a_dirty_run_on_an_unborn_branch_differs_in_everything(tmp_path: Path, home: Home) -> None:
    root = write_tree(tmp_path / "new", {"a.py": "1\n"})
    git(root, "init", "-q")
    kept(root, home, "run1")
    assert b"+1\n" in difference("run1", home)


def test_a_later_commit_with_the_same_tree_is_found(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"a.py": "2", "new.py": "3"})
    source, snapshot = freeze(root, home)
    assert find_tree_in_history(snapshot.code.tree, source) is None
    git(root, "checkout", "-q", "-b", "elsewhere")
    git(root, "add", ".")
    git(root, "commit", "-qm", "what ran")
    commit = git(root, "rev-parse", "HEAD")
    git(root, "commit", "-q", "--allow-empty", "-m", "same again")
    git(root, "checkout", "-q", "main")
    assert find_tree_in_history(snapshot.code.tree, source) == commit
    assert find_trees_in_history((snapshot.code.tree, "0" * 40), source) == {snapshot.code.tree: commit}
    assert find_trees_in_history((), source) == {}


def test_large_files_come_back_while_they_are_the_same(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"data/big.bin": "x" * 100})
    _, snapshot = freeze(root, home, limit=50)
    keep_snapshot(snapshot, "run1", home)
    printed = Said()
    checkout("run1", tmp_path / "back", home, printed)
    assert (tmp_path / "back/data/big.bin").read_text(encoding="utf-8") == "x" * 100
    assert printed == []
    write_tree(root, {"data/big.bin": "y" * 100})
    checkout("run1", tmp_path / "later", home, printed)
    assert not (tmp_path / "later/data/big.bin").exists()
    assert "big.bin" in printed.text


def test_forgotten_runs_are_freed_and_others_stay(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1", "big.txt": "x" * 1000})
    write_tree(root, {"a.py": "of the first run only"})
    first = kept(root, home, "run1")
    write_tree(root, {"a.py": "2"})
    second = kept(root, home, "run2")
    write_tree(root, {"a.py": "3"})
    third = freeze(root, home)[1]
    source, _ = freeze(root, home)
    check_out(third, source, "run3", home, Said()).release(keep=False)
    release_snapshot("run1", home)
    release_snapshot("run1", home)
    long_ago = 1_000_000_000
    for path in (home.snapshot_store / "objects").rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))
    collect_garbage(home)
    assert not (home.folders / ".pool").exists()
    assert not has_object(home, first.code.tree)
    assert has_object(home, second.code.tree)
    checkout("run2", tmp_path / "back", home, Said())
    assert git(home.snapshot_store, "fsck", "--full", "--strict", "--no-dangling") == ""
    # What the kept index counts on is still there, and a tree that was freed is made anew.
    assert freeze(root, home)[1].code.tree == third.code.tree
    write_tree(root, {"a.py": "1"})
    kept(root, home, "run4")
    collect_garbage(home)
    checkout("run4", tmp_path / "four", home, Said())
    assert (tmp_path / "four/big.txt").read_text(encoding="utf-8") == "x" * 1000


def test_indexes_of_projects_that_are_gone_are_freed(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    freeze(root, home)
    shutil.rmtree(root)
    collect_garbage(home)
    assert list(home.indexes.glob("*/index")) == []
    assert git(home.snapshot_store, "for-each-ref") == ""
