"""Restores the code of a run: its exact tree, its difference from its commit, and a later commit of the same tree."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from runner.base.files import clone_at, copy_at, open_regular, sha256_of
from runner.base.safe_paths import open_file, open_tree
from runner.errors import GitError, InvalidValueError, SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.checkout import Table, checkout_tree
from runner.source.gitcommand import CONTENT_LIMIT, GitDirectory, git
from runner.source.opening import Source
from runner.source.snapshot import LargeFile, read_large
from runner.source.snapshot_store import damaged_run, read_run_commit, store_git_directory
from runner.source.sound_objects import require_sound_objects

_DIFF = ("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


def checkout(run_id: str, destination: Path, home: Home, report: Report) -> str:
    """Write the exact tree of a run into a new or empty folder, and return the tree's id.

    Files that were too large to be stored are copied from the project if they are unchanged.

    Raises:
        SnapshotError: the folder is not empty, or the snapshot store does not have the run's code.
    """
    stored = read_run_commit(home, run_id)
    target = destination.absolute()
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise SnapshotError(f"{destination} is not an empty folder", hint="Give a folder that does not exist.")
    # Beside the code: nothing is written to a home that is only read.
    index = target.parent / f".{target.name[:100]}.{os.urandom(8).hex()}.index"
    try:
        require_sound_objects(home, run_id, stored.tree)
        checkout_tree(home, target, stored.tree, Table(), index)
    except GitError as error:
        raise damaged_run(run_id, error.context) from error
    origin, large = read_large(stored)
    for one in large:
        if not _bring(one, target, origin):
            message = f"'{one.path}' was too large to be stored, and the project no longer has it unchanged"
            report(
                Event(kind=EventKind.WARNING, message=message, hint=f"It had {one.size} bytes, SHA-256 {one.sha256}")
            )
    return stored.tree


def _bring(one: LargeFile, target: Path, origin: Path | None) -> bool:
    if origin is None:
        return False
    found = origin / one.path
    try:
        if found.stat().st_size != one.size or sha256_of(found) != one.sha256:
            return False
        with open_regular(found, follow=True) as source, open_tree(target) as tree:
            folder, name = tree.parent(one.path, create=True)
            if not clone_at(source.fileno(), folder, name):
                copy_at(source, folder, name)
            with open_file(folder, name) as copy:
                os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode))
    except (OSError, InvalidValueError):
        return False
    return True


class FileChange(Struct, frozen=True, kw_only=True):
    """A file that differs between two trees, with the numbers of added and removed lines; None for binary files."""

    path: str
    added: int | None = None
    removed: int | None = None


def changes_between(first: str, second: str, home: Home) -> tuple[FileChange, ...]:
    """Return the files in which the code of two runs differs, seen from the first.

    Raises:
        SnapshotError: the snapshot store does not have the code of a run.
    """
    # Each entry is "added<TAB>removed<TAB>path"; a binary file has dashes.
    output = _between(first, second, home, "--numstat", "-z", "--no-renames", "--no-color", "--no-ext-diff")
    return _counted(output)


def changes_of_commit(commit: str, repository: Path) -> tuple[FileChange, ...]:
    """Return the files that a commit of the user's repository changes, compared with its first parent.

    Raises:
        GitError: the commit is missing or damaged.
    """
    options = ("-r", "-z", "--root", "--numstat", "--no-renames", "--no-commit-id", "--no-ext-diff", "--no-textconv")
    # With -m a merge is compared with each parent; --first-parent keeps the first one.
    arguments = ("diff-tree", *options, "-m", "--first-parent", commit)
    return _counted(git(GitDirectory(git_dir=repository), *arguments))


def _counted(output: bytes) -> tuple[FileChange, ...]:
    """Return the changes that ``--numstat -z`` prints."""
    entries = (entry.split(b"\t", 2) for entry in output.split(b"\0") if entry.count(b"\t") > 1)
    return tuple(
        FileChange(path=os.fsdecode(path), added=_count(added), removed=_count(removed))
        for added, removed, path in entries
    )


def patch_between(first: str, second: str, home: Home) -> bytes:
    """Return the difference between the code of two runs as a patch for ``git apply``.

    Raises:
        SnapshotError: the snapshot store does not have the code of a run.
    """
    return _between(first, second, home, *_DIFF[1:])


def _between(first: str, second: str, home: Home, *options: str) -> bytes:
    trees = [read_run_commit(home, run_id).tree for run_id in (first, second)]
    try:
        for run_id, tree in zip((first, second), trees, strict=True):
            require_sound_objects(home, run_id, tree)
        return git(store_git_directory(home), "diff", *options, *trees, limit=CONTENT_LIMIT)
    except GitError as error:
        raise damaged_run(second, error.context) from error


def _count(number: bytes) -> int | None:
    return int(number) if number.isdigit() else None


def difference(run_id: str, home: Home) -> bytes:
    """Return the difference between a dirty run's code and its commit as a patch for ``git apply``.

    The patch of a clean run is empty.

    Raises:
        SnapshotError: the snapshot store does not have the run's code.
    """
    stored = read_run_commit(home, run_id)
    try:
        require_sound_objects(home, run_id, *filter(None, (stored.base, stored.tree)))
        if not stored.base:
            return b""
        return git(store_git_directory(home), *_DIFF, stored.base, stored.tree, limit=CONTENT_LIMIT)
    except GitError as error:
        raise damaged_run(run_id, error.context) from error


def find_tree_in_history(tree: str, source: Source) -> str | None:
    """Return the oldest commit with exactly this tree that is reachable from any ref of the source's repository."""
    return find_trees_in_history((tree,), source).get(tree)


def find_trees_in_history(trees: Iterable[str], source: Source) -> dict[str, str]:
    """Return the oldest reachable commit of each tree that has one."""
    wanted = frozenset(trees)
    if source.repository is None or not wanted:
        return {}
    git_directory = GitDirectory(git_dir=source.repository)
    lines = git(git_directory, "rev-list", "--all", "--format=%T %H").decode().splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("commit "))
    return {tree: commit for tree, commit in pairs if tree in wanted}
