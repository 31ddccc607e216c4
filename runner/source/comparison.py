"""Compares a frozen tree with its commit, and ignores differences by filters and sparse checkouts."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.checkouts import read_commit
from runner.source.filters import disabled_filters, trusted_filter_settings
from runner.source.freezing import ABSENT, SnapshotIndex, State
from runner.source.gitcommand import GitDirectory, Settings, git, run_git
from runner.source.listing import UNTRACKED, Files, Lister, read_listing
from runner.source.opening import Source
from runner.source.snapshot_store import EMPTY_TREE, store_git_directory, temporary_index, write_object
from runner.source.submodules import SubmoduleFinder, SubmoduleTree, tree_with_submodules
from runner.source.transfer import copy_tree

_RAW = rb"^:(\d+) (\d+) [0-9a-f.]+ [0-9a-f.]+ ([A-Z])\d*$"
_SKIPPED = (b"S", b"s")
_SECOND = 10**9


class Difference(Struct, frozen=True, kw_only=True):
    """The difference between a tree and its commit.

    ``base`` is the commit's tree in the snapshot store, including the files of submodules; None without a commit or in
    an incomplete clone. ``missing`` counts the commit's files that a sparse checkout leaves out. ``unused`` are filters
    that are configured in the repository only; they are not run, although they may explain a change.
    """

    base: str | None
    changed: tuple[bytes, ...] = ()
    missing: int = 0
    unused: tuple[str, ...] = ()


def compare(source: Source, state: State, snapshot_index: SnapshotIndex) -> Difference:
    """Return the difference between a frozen work tree and its HEAD commit.

    Raises:
        SnapshotError: git can't compare the trees.
    """
    if source.tree is None:
        return _without_commit(source, state, snapshot_index.home)
    if state.tree == source.tree and not state.left:
        return Difference(base=state.tree)
    if len(source.tree) != len(state.tree):  # a repository of SHA-256 objects; those of the snapshot store are SHA-1
        return Difference(
            base=None, changed=tuple(sorted(_changed_by_status(snapshot_index.lister.git_directory(b""))))
        )
    commits = {b"": source.commit or ""}
    base, complete = _base(source, state, snapshot_index, commits)
    if state.tree == base and not state.left:
        return Difference(base=base)
    found = _sort_out(base, source, state, snapshot_index, commits)
    return found if complete else structs.replace(found, base=None)


def _without_commit(source: Source, state: State, home: Home) -> Difference:
    if source.repository is None:
        return Difference(base=None)
    write_object(home, "tree", b"")
    return Difference(base=EMPTY_TREE, changed=tuple(sorted(read_listing(state.listing).tags)))


def _base(source: Source, state: State, snapshot_index: SnapshotIndex, commits: dict[bytes, str]) -> tuple[str, bool]:
    """Return the tree to compare with, and whether the snapshot store has all of it; add submodule commits."""
    tree, lister = source.tree or "", snapshot_index.lister
    checkout = lister.checkout(b"")
    with suppress(SnapshotError):  # a partial clone has the trees, but may lack files
        if checkout and (len(state.listing.raw) > 1 or state.listing.empty):
            return tree_with_submodules(
                snapshot_index.home, tree, checkout.objects, _finder(lister, b"", commits)
            ), True
        if source.objects:
            copy_tree(snapshot_index.home, tree, source.objects)
            return tree, True
    return tree, False


def _finder(lister: Lister, prefix: bytes, commits: dict[bytes, str]) -> SubmoduleFinder:
    """Return a finder for the recorded commits of checked-out submodules."""

    def find(path: bytes, commit: str, _tree: str) -> SubmoduleTree | None:
        inner = prefix + path + b"/"
        here = lister.checkout(inner)
        found = read_commit(GitDirectory(git_dir=here.git_dir), commit) if here else None
        if here is None or found is None:
            return None
        commits[inner] = commit
        return SubmoduleTree(tree=found.tree, objects=here.objects, find=_finder(lister, inner, commits))

    return find


def _sort_out(
    base: str, source: Source, state: State, snapshot_index: SnapshotIndex, commits: dict[bytes, str]
) -> Difference:
    files = read_listing(state.listing)
    left = {one.path: one.why for one in state.left if one.why not in ("vanished", ABSENT)}
    changed = {path for path in left if files.tags.get(path, UNTRACKED) == UNTRACKED}
    perhaps: set[bytes] = set()
    missing = 0
    for modes, letter, path in _raw_differences(base, source, state.tree, snapshot_index.home):
        verdict = _judge(letter, path, files, left)
        if verdict == "sparse" or (modes[0] == b"160000" and path + b"/" in state.listing.empty):
            missing += verdict == "sparse"
        elif verdict == "ask":
            perhaps.add(path)
        else:
            changed.add(path)
    perhaps |= {path for path, why in left.items() if why == "large"} - changed
    confirmed = _confirmed(perhaps, snapshot_index, state, commits)
    unused = disabled_filters(snapshot_index.lister.git_directory(b"")) if confirmed else ()
    return Difference(base=base, changed=tuple(sorted(changed | confirmed)), missing=missing, unused=unused)


def _raw_differences(
    base: str, source: Source, tree: str, home: Home
) -> Iterable[tuple[tuple[bytes, bytes], bytes, bytes]]:
    git_directory = store_git_directory(home, *((source.objects,) if source.objects else ()))
    fields = git(git_directory, "diff-tree", "-r", "-z", "--no-renames", base, tree).split(b"\0")
    for description, path in zip(fields[::2], fields[1::2], strict=False):
        match = re.match(_RAW, description)
        if match:
            yield (match[1], match[2]), match[3], path


def _judge(letter: bytes, path: bytes, files: Files, left: dict[bytes, str]) -> str:
    """Classify a difference: ``changed``, ``sparse``, or ``ask`` if git must apply filters to decide."""
    tag = files.tags.get(path, b"")
    if letter == b"D":
        if left.get(path) == "large":
            return "ask"
        return "sparse" if tag in _SKIPPED and path not in left else "changed"
    # Lower case: the index entry is marked "assume unchanged", so git would not report a change.
    return "changed" if letter == b"A" or tag.islower() or tag in _SKIPPED else "ask"


def _confirmed(paths: set[bytes], snapshot_index: SnapshotIndex, state: State, commits: dict[bytes, str]) -> set[bytes]:
    """Return the paths that differ from the commit after their own repository applied its filters."""
    owners: dict[bytes, set[bytes]] = {}
    for path in paths:
        owner = max((prefix for prefix in state.listing.raw if path.startswith(prefix)), key=len)
        owners.setdefault(owner, set()).add(path)
    found: set[bytes] = set()
    for owner, some in owners.items():
        commit = commits.get(owner)
        reported = _changed_by_diff(snapshot_index, owner, commit, some) if commit else some
        found |= some & reported
    return found


def _changed_by_diff(snapshot_index: SnapshotIndex, prefix: bytes, commit: str, some: set[bytes]) -> set[bytes]:
    """Return changed paths. git works on a copy of the index, because it stores file status there."""
    own = snapshot_index.lister.git_directory(prefix)
    filter_settings = trusted_filter_settings(own)
    # Where a filter may not run, git detects files that it has written by their time alone, in whole seconds.
    settled = {path for path in some if filter_settings and _is_older(snapshot_index.root, path, own.git_dir / "index")}
    found: set[bytes] = set()
    for paths, later in ((some - settled, 0), (settled, _SECOND)):
        if paths:
            reported = _diff(snapshot_index, own, commit, filter_settings, later)
            found |= {prefix + path for path in reported} & paths
    return found


def _diff(
    snapshot_index: SnapshotIndex, own: GitDirectory, commit: str, filter_settings: Settings, later: int
) -> list[bytes]:
    index = temporary_index(snapshot_index.home)
    git_directory = structs.replace(own, index=index)
    try:
        with suppress(FileNotFoundError):
            _copy_with_times(own.git_dir / "index", index, later)
        run_git(git_directory, "update-index", "-q", "--refresh", settings=filter_settings)  # fails if a file changed
        arguments = ("diff-index", "--name-only", "-z", "--no-renames", "--ignore-submodules=all")
        return git(git_directory, *arguments, commit, settings=filter_settings).split(b"\0")[:-1]
    finally:
        index.unlink(missing_ok=True)


def _is_older(root: Path, path: bytes, index: Path) -> bool:
    """Tell whether a file was last changed before an index was written."""
    try:
        status = (root / os.fsdecode(path)).lstat()
        return max(status.st_mtime_ns, status.st_ctime_ns) < index.stat().st_mtime_ns
    except OSError:
        return False


def _copy_with_times(index: Path, copy: Path, later: int = 0) -> None:
    """Copy an index with its time plus ``later`` ns; git uses that time to find files that changed after it."""
    copy.write_bytes(index.read_bytes())
    status = index.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns + later))


def _changed_by_status(git_directory: GitDirectory) -> set[bytes]:
    arguments = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all", "--untracked-files=all")
    return {
        line[3:]
        for line in git(git_directory, *arguments, settings=trusted_filter_settings(git_directory)).split(b"\0")
        if line
    }
