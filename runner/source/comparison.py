"""Clean or dirty: how a frozen tree differs from its commit, beyond what filters and sparse checkouts explain."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.checkouts import read_commit
from runner.source.filters import only_users_filters, unused_filters
from runner.source.freezing import ABSENT, SnapshotIndex, State
from runner.source.gitcommand import GitDirectory, Settings, git, run_git
from runner.source.listing import UNTRACKED, Files, Lister, read_listing
from runner.source.opening import Source
from runner.source.snapshot_store import EMPTY_TREE, snapshot_store_git_directory, temporary_index, write_object
from runner.source.submodules import Find, Part, whole_tree
from runner.source.transfer import bring_tree

_RAW = rb"^:(\d+) (\d+) [0-9a-f.]+ [0-9a-f.]+ ([A-Z])\d*$"
_SKIPPED = (b"S", b"s")
_SECOND = 10**9


class Difference(Struct, frozen=True, kw_only=True):
    """How a tree differs from its commit.

    ``base`` is the commit's tree in the vault, with the files of submodules in it; None when there is none, or when the
    clone lacks parts of it. ``missing`` counts files of the commit that a sparse checkout leaves out. ``unused`` are
    filters that were not run although they may explain a change: only the repository's own configuration names them.
    """

    base: str | None
    changed: tuple[bytes, ...] = ()
    missing: int = 0
    unused: tuple[str, ...] = ()


def compare(source: Source, state: State, bench: SnapshotIndex) -> Difference:
    """Say in which files a frozen work tree differs from the commit that it stands at.

    Raises:
        SnapshotError: git can't compare.
    """
    if source.tree is None:
        return _without_commit(source, state, bench.home)
    if state.tree == source.tree and not state.left:
        return Difference(base=state.tree)
    if len(source.tree) != len(state.tree):  # a repository of SHA-256 objects; the vault's are SHA-1
        return Difference(base=None, changed=tuple(sorted(_told_by_status(bench.lister.place(b"")))))
    commits = {b"": source.commit or ""}
    base, complete = _base(source, state, bench, commits)
    if state.tree == base and not state.left:
        return Difference(base=base)
    found = _sort_out(base, source, state, bench, commits)
    return found if complete else structs.replace(found, base=None)


def _without_commit(source: Source, state: State, home: Home) -> Difference:
    if source.repository is None:
        return Difference(base=None)
    write_object(home, "tree", b"")
    return Difference(base=EMPTY_TREE, changed=tuple(sorted(read_listing(state.listing).tags)))


def _base(source: Source, state: State, bench: SnapshotIndex, commits: dict[bytes, str]) -> tuple[str, bool]:
    """Return the tree to compare with, and whether the vault has all of it; add the commits of submodules."""
    tree, lister = source.tree or "", bench.lister
    checkout = lister.checkout(b"")
    with suppress(SnapshotError):  # a partial clone: its trees are there, its files perhaps not
        if checkout and (len(state.listing.raw) > 1 or state.listing.empty):
            return whole_tree(bench.home, tree, checkout.objects, _finder(lister, b"", commits)), True
        if source.objects:
            bring_tree(bench.home, tree, source.objects)
            return tree, True
    return tree, False


def _finder(lister: Lister, prefix: bytes, commits: dict[bytes, str]) -> Find:
    """Return how to find the recorded commits of those submodules that are checked out."""

    def find(path: bytes, commit: str, _tree: str) -> Part | None:
        inner = prefix + path + b"/"
        here = lister.checkout(inner)
        found = read_commit(GitDirectory(git_dir=here.git_dir), commit) if here else None
        if here is None or found is None:
            return None
        commits[inner] = commit
        return Part(tree=found.tree, objects=here.objects, find=_finder(lister, inner, commits))

    return find


def _sort_out(base: str, source: Source, state: State, bench: SnapshotIndex, commits: dict[bytes, str]) -> Difference:
    files = read_listing(state.listing)
    left = {one.path: one.why for one in state.left if one.why not in ("vanished", ABSENT)}
    changed = {path for path in left if files.tags.get(path, UNTRACKED) == UNTRACKED}
    perhaps: set[bytes] = set()
    missing = 0
    for modes, letter, path in _raw_differences(base, source, state.tree, bench.home):
        verdict = _judge(letter, path, files, left)
        if verdict == "sparse" or (modes[0] == b"160000" and path + b"/" in state.listing.empty):
            missing += verdict == "sparse"
        elif verdict == "ask":
            perhaps.add(path)
        else:
            changed.add(path)
    perhaps |= {path for path, why in left.items() if why == "large"} - changed
    confirmed = _confirmed(perhaps, bench, state, commits)
    unused = unused_filters(bench.lister.place(b"")) if confirmed else ()
    return Difference(base=base, changed=tuple(sorted(changed | confirmed)), missing=missing, unused=unused)


def _raw_differences(
    base: str, source: Source, tree: str, home: Home
) -> Iterable[tuple[tuple[bytes, bytes], bytes, bytes]]:
    place = snapshot_store_git_directory(home, *((source.objects,) if source.objects else ()))
    fields = git(place, "diff-tree", "-r", "-z", "--no-renames", base, tree).split(b"\0")
    for description, path in zip(fields[::2], fields[1::2], strict=False):
        match = re.match(_RAW, description)
        if match:
            yield (match[1], match[2]), match[3], path


def _judge(letter: bytes, path: bytes, files: Files, left: dict[bytes, str]) -> str:
    """Say whether a difference is ``changed``, explained as ``sparse``, or for git to ``ask`` about filters."""
    tag = files.tags.get(path, b"")
    if letter == b"D":
        if left.get(path) == "large":
            return "ask"
        return "sparse" if tag in _SKIPPED and path not in left else "changed"
    # Lower case: git was told to assume the file unchanged, so that it would not see a change.
    return "changed" if letter == b"A" or tag.islower() or tag in _SKIPPED else "ask"


def _confirmed(paths: set[bytes], bench: SnapshotIndex, state: State, commits: dict[bytes, str]) -> set[bytes]:
    """Return those paths that differ from the commit in the eyes of their own repository, filters applied."""
    owners: dict[bytes, set[bytes]] = {}
    for path in paths:
        owner = max((prefix for prefix in state.listing.raw if path.startswith(prefix)), key=len)
        owners.setdefault(owner, set()).add(path)
    found: set[bytes] = set()
    for owner, some in owners.items():
        commit = commits.get(owner)
        told = _told_by_diff(bench, owner, commit, some) if commit else some
        found |= some & told
    return found


def _told_by_diff(bench: SnapshotIndex, prefix: bytes, commit: str, some: set[bytes]) -> set[bytes]:
    """Ask git with a copy of the index, in which it writes down what it learns about the files."""
    own = bench.lister.place(prefix)
    tame = only_users_filters(own)
    # Where a filter may not run, git can tell by times alone which files it has written itself. It counts in seconds.
    settled = {path for path in some if tame and _is_older(bench.root, path, own.git_dir / "index")}
    found: set[bytes] = set()
    for paths, later in ((some - settled, 0), (settled, _SECOND)):
        if paths:
            told = _diff(bench, own, commit, tame, later)
            found |= {prefix + path for path in told} & paths
    return found


def _diff(bench: SnapshotIndex, own: GitDirectory, commit: str, tame: Settings, later: int) -> list[bytes]:
    index = temporary_index(bench.home)
    place = structs.replace(own, index=index)
    try:
        with suppress(FileNotFoundError):
            _copy_with_times(own.git_dir / "index", index, later)
        run_git(place, "update-index", "-q", "--refresh", settings=tame)  # fails where something was changed
        words = ("diff-index", "--name-only", "-z", "--no-renames", "--ignore-submodules=all")
        return git(place, *words, commit, settings=tame).split(b"\0")[:-1]
    finally:
        index.unlink(missing_ok=True)


def _is_older(root: Path, path: bytes, index: Path) -> bool:
    """Say whether a file was last touched before an index was written."""
    try:
        status = (root / os.fsdecode(path)).lstat()
        return max(status.st_mtime_ns, status.st_ctime_ns) < index.stat().st_mtime_ns
    except OSError:
        return False


def _copy_with_times(index: Path, copy: Path, later: int = 0) -> None:
    """Copy an index; by its time, here ``later`` by so many ns, git knows which files may have changed after it."""
    copy.write_bytes(index.read_bytes())
    status = index.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns + later))


def _told_by_status(place: GitDirectory) -> set[bytes]:
    words = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all", "--untracked-files=all")
    return {line[3:] for line in git(place, *words, settings=only_users_filters(place)).split(b"\0") if line}
