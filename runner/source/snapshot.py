"""Takes the snapshot of a source: one tree in the snapshot store, compared with the user's commit."""

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from runner.base.files import DigestCache
from runner.base.lazy import LazyModule
from runner.base.plurals import counted
from runner.errors import GitError, SnapshotError
from runner.model import Code, Event, EventKind, Report
from runner.settings import Home
from runner.source.comparison import Difference, compare
from runner.source.freezing import SIZE_LIMIT, SnapshotIndex, State, freeze, state_of
from runner.source.gitcommand import run_git
from runner.source.opening import Source
from runner.source.snapshot_store import EMPTY_TREE, RunCommit, keep_commit

if TYPE_CHECKING:
    from runner.source import commits, damage, recovery
else:
    commits = LazyModule("runner.source.commits")
    damage = LazyModule("runner.source.damage")
    recovery = LazyModule("runner.source.recovery")

_SHOWN = 5


class LargeFile(Struct, frozen=True, kw_only=True):
    """A file that is too large to be stored: its path below the repository's top, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


class Snapshot(Struct, frozen=True, kw_only=True):
    """A frozen tree in the snapshot store.

    ``base`` is the tree of the commit that a dirty tree is compared with. ``committed_at`` is the time of the commit;
    None without a commit. ``label`` is the name of the project's folder.
    """

    code: Code
    label: str
    root: Path | None = None
    base: str | None = None
    committed_at: datetime | None = None
    large: tuple[LargeFile, ...] = ()
    notices: tuple[str, ...] = ()


class RunMetadata(Struct, frozen=True, kw_only=True):
    """Metadata of a run in the message of its commit in the snapshot store; paths are bytes, in Base64 in the JSON."""

    commit: str | None
    dirty: bool
    remote: str | None
    root: bytes | None
    large: tuple[tuple[bytes, int, str], ...]


def take_snapshot(source: Source, home: Home, report: Report, limit: int = SIZE_LIMIT) -> Snapshot:
    """Take a snapshot of a source; files of more than ``limit`` bytes are recorded by digest and not stored.

    If the snapshot store is damaged, damaged objects are removed and the files are read again.

    Raises:
        SnapshotError: the files can't be stored.
        SourceError: a submodule can't be fetched.
    """
    try:
        return _take(source, home, report, limit)
    except GitError:
        folder = _snapshot_index(source, home, limit).folder
        known = None if source.frozen else state_of(folder)
        trees = {tree for tree in (source.tree, known and known.tree) if tree and len(tree) == len(EMPTY_TREE)}
        forgotten = not source.frozen and damage.discard_index(folder)
        if not (recovery.recover_store(home, trees, report) or forgotten):
            raise
    return _take(source, home, report, limit)


def retake_snapshot(snapshot: Snapshot, source: Source, home: Home, report: Report) -> bool:
    """Repair a snapshot from its source, and return whether an object of it was damaged or missing.

    Raises:
        SnapshotError: the project was changed.
    """
    if not recovery.recover_store(home, [snapshot.code.tree], report):
        return False
    if source.root and not source.frozen:
        damage.discard_index(_snapshot_index(source, home, SIZE_LIMIT).folder)
    again = take_snapshot(source, home, lambda _event: None)
    if again.code.tree != snapshot.code.tree:
        message = "The snapshot was damaged, and the project changed before it was taken again"
        raise SnapshotError(message, hint="Start the run again.")
    return True


def _snapshot_index(source: Source, home: Home, limit: int) -> SnapshotIndex:
    return SnapshotIndex(root=source.root or Path(), home=home, limit=limit, ignoring=source.address.is_ignoring)


def _take(source: Source, home: Home, report: Report, limit: int) -> Snapshot:
    if source.frozen:
        return _snapshot(source, commits.tree_of_commit(source, home, report))
    snapshot_index = _snapshot_index(source, home, limit)
    state = freeze(snapshot_index, report)
    difference = compare(source, state, snapshot_index) if snapshot_index.ignoring else Difference(base=None)
    large, unread = _digest_large(state, snapshot_index, report)
    notices = (*_notices(state, difference, snapshot_index), *unread)
    for text in notices:
        report(Event(kind=EventKind.NOTICE, message=text))
    return _snapshot(source, state.tree, difference=difference, large=large, notices=notices)


def _snapshot(
    source: Source,
    tree: str,
    *,
    difference: Difference | None = None,
    large: tuple[LargeFile, ...] = (),
    notices: tuple[str, ...] = (),
) -> Snapshot:
    changed = difference.changed if difference else ()
    code = Code(
        tree=tree,
        swhid=f"swh:1:dir:{tree}",
        commit=source.commit,
        dirty=bool(changed) or (source.repository is not None and source.commit is None),
        branch=source.branch,
        remote=source.remote,
        subdirectory=source.subdirectory,
        ref=source.ref,
        changed_files=tuple(path_text(path) for path in changed),
    )
    return Snapshot(
        code=code,
        label=source.label,
        root=source.root,
        base=difference.base if difference and code.dirty else None,
        committed_at=_time_of(source.committed_at),
        large=large,
        notices=notices,
    )


_LATEST = 250_000_000_000
"""Seconds since 1970 up to which times can be calculated with."""


def _time_of(seconds: int | None) -> datetime | None:
    """Return the time of a commit, None without a commit or for a time that is unknown or after the year 9891."""
    return datetime.fromtimestamp(seconds, timezone.utc) if seconds and seconds < _LATEST else None


def path_text(path: bytes) -> str:
    """Return a path of any bytes as text that can be stored and printed."""
    return path.decode("utf-8", "backslashreplace")


def _digest_large(
    state: State, snapshot_index: SnapshotIndex, report: Report
) -> tuple[tuple[LargeFile, ...], list[str]]:
    cache = DigestCache(snapshot_index.folder / "digests")
    found = []
    unread = []
    for one in state.left:
        if one.why == "large":
            path = snapshot_index.root / os.fsdecode(one.path)
            if not cache.knows(path):
                report(Event(kind=EventKind.STEP, message=f"Digesting {path_text(one.path)}"))
            try:
                found.append(LargeFile(path=os.fsdecode(one.path), size=path.stat().st_size, sha256=cache.digest(path)))
            except OSError as error:
                unread.append(f"{path_text(one.path)} can't be read: {error.strerror}")
    cache.save()
    return tuple(found), unread


def _notices(state: State, difference: Difference, snapshot_index: SnapshotIndex) -> list[str]:
    """Return a notice for each reason why files are not in the tree."""
    why: dict[str, list[bytes]] = {}
    for one in state.left:
        why.setdefault(one.why, []).append(one.path)
    specials = {name for folder in state.folders.values() for name in folder.specials}
    specials -= _ignored(specials, snapshot_index) if specials else set()
    texts = {
        f"Too large to be stored (over {snapshot_index.limit:,} bytes), recorded by digest": why.get("large", []),
        "A pipe, a socket or a device, not part of the snapshot": [
            *sorted(specials | set(why.get("special", []))),
        ],
        "Can't be read, not part of the snapshot": why.get("unreadable", []),
        "Deleted while the snapshot was taken": why.get("vanished", []),
        "An environment that git does not ignore, left out of the snapshot": list(state.skipped_environments),
        "A Git LFS pointer without the content (run `git lfs pull`)": list(state.pointers),
        "A submodule that is not checked out, its files are missing (run `git submodule update --init`)": list(
            state.listing.empty
        ),
    }
    found = [f"{text}: {_some(paths)}" for text, paths in texts.items() if paths]
    found += [f"Part of the project can't be read: {problem}" for problem in state.listing.problems]
    if difference.missing:
        found.append(f"Sparse checkout: the project folder lacks {counted(difference.missing, 'file')} of the commit")
    if difference.unused:
        found.append(
            "Filters of the repository's own configuration are not run, so their files may count as changed "
            f"(allow them with `git config --global`): {', '.join(difference.unused)}"
        )
    return found


def _ignored(paths: set[bytes], snapshot_index: SnapshotIndex) -> set[bytes]:
    git_directory = snapshot_index.lister.git_directory(b"")
    done = run_git(
        git_directory, "check-ignore", "-z", "--stdin", "--no-index", stdin=b"".join(path + b"\0" for path in paths)
    )
    return set(done.stdout.split(b"\0")[:-1])


def _some(paths: list[bytes]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(path_text(path) for path in paths[:_SHOWN]) + more


def keep_snapshot(snapshot: Snapshot, run_id: str, home: Home) -> None:
    """Keep the tree, and the commit's tree of a dirty snapshot, until the run is removed.

    Raises:
        SnapshotError: the snapshot store no longer has the tree.
    """
    code = snapshot.code
    about = RunMetadata(
        commit=code.commit,
        dirty=code.dirty,
        remote=code.remote,
        root=os.fsencode(snapshot.root) if snapshot.root else None,
        large=tuple((os.fsencode(one.path), one.size, one.sha256) for one in snapshot.large),
    )
    message = f"run {run_id}\n\n{msgspec.json.encode(about).decode()}"
    keep_commit(home, run_id, RunCommit(tree=code.tree, base=snapshot.base, message=message))


def read_run_metadata(commit: RunCommit) -> RunMetadata:
    """Return the metadata in the message of a run's commit.

    Raises:
        msgspec.DecodeError: the message is invalid.
    """
    return msgspec.json.decode(commit.message.partition("\n\n")[2], type=RunMetadata)


def read_large(commit: RunCommit) -> tuple[Path | None, tuple[LargeFile, ...]]:
    """Return the project's top folder and the large files of a run, as `keep_snapshot` recorded them."""
    about = read_run_metadata(commit)
    large = (LargeFile(path=os.fsdecode(path), size=size, sha256=digest) for path, size, digest in about.large)
    return Path(os.fsdecode(about.root)) if about.root else None, tuple(large)


def current_tree(source: Source, home: Home) -> str:
    """Return the current tree of the work tree, for a run that worked in place."""
    return take_snapshot(source, home, lambda _event: None).code.tree
