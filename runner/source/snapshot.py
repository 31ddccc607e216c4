"""The snapshot of a source: one tree in the vault, and how it relates to the user's commits."""

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from runner.base.files import DigestCache
from runner.base.lazy import LazyModule
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
    """A frozen tree in the vault.

    ``base`` is the tree of the commit that a dirty tree is compared with. ``committed_at`` is when the commit was made,
    None without one. ``label`` names the project's folder.
    """

    code: Code
    label: str
    root: Path | None = None
    base: str | None = None
    committed_at: datetime | None = None
    large: tuple[LargeFile, ...] = ()
    notices: tuple[str, ...] = ()


class About(Struct, frozen=True, kw_only=True):
    """What the vault's commit says of a run besides its tree; paths are bytes, which JSON has in Base64."""

    commit: str | None
    dirty: bool
    remote: str | None
    root: bytes | None
    large: tuple[tuple[bytes, int, str], ...]


def take_snapshot(source: Source, home: Home, report: Report, limit: int = SIZE_LIMIT) -> Snapshot:
    """Freeze what a source stands for; files of more than ``limit`` bytes are digested and not stored.

    Where the store of snapshots is damaged, that is taken out and the files are read anew.

    Raises:
        SnapshotError: the tree can't be frozen.
        SourceError: a submodule can't be had.
    """
    try:
        return _take(source, home, report, limit)
    except GitError:
        folder = _bench(source, home, limit).folder
        known = None if source.frozen else state_of(folder)
        trees = {tree for tree in (source.tree, known and known.tree) if tree and len(tree) == len(EMPTY_TREE)}
        forgotten = not source.frozen and damage.forget_index(folder)
        if not (recovery.take_out(home, trees, report) or forgotten):
            raise
    return _take(source, home, report, limit)


def take_again(snapshot: Snapshot, source: Source, home: Home, report: Report) -> bool:
    """Make a snapshot whole from what it was taken of, and say whether anything of it was damaged or missing.

    Raises:
        SnapshotError: the project is not the same any more.
    """
    if not recovery.take_out(home, [snapshot.code.tree], report):
        return False
    if source.root and not source.frozen:
        damage.forget_index(_bench(source, home, SIZE_LIMIT).folder)
    again = take_snapshot(source, home, lambda _event: None)
    if again.code.tree != snapshot.code.tree:
        message = "The project changed while its snapshot, which was damaged, was taken again"
        raise SnapshotError(message, hint="Start the run again.")
    return True


def _bench(source: Source, home: Home, limit: int) -> SnapshotIndex:
    return SnapshotIndex(root=source.root or Path(), home=home, limit=limit, ignoring=source.address.is_ignoring)


def _take(source: Source, home: Home, report: Report, limit: int) -> Snapshot:
    if source.frozen:
        return _snapshot(source, commits.tree_of_commit(source, home, report))
    bench = _bench(source, home, limit)
    state = freeze(bench, report)
    difference = compare(source, state, bench) if bench.ignoring else Difference(base=None)
    large, unread = _digest_large(state, bench, report)
    notices = (*_notices(state, difference, bench), *unread)
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
        changed_files=tuple(shown(path) for path in changed),
    )
    return Snapshot(
        code=code,
        label=source.label,
        root=source.root,
        base=difference.base if difference and code.dirty else None,
        committed_at=datetime.fromtimestamp(source.committed_at, timezone.utc) if source.committed_at else None,
        large=large,
        notices=notices,
    )


def shown(path: bytes) -> str:
    """Return a path as text that can be stored and printed, whatever bytes it is made of."""
    return path.decode("utf-8", "backslashreplace")


def _digest_large(state: State, bench: SnapshotIndex, report: Report) -> tuple[tuple[LargeFile, ...], list[str]]:
    cache = DigestCache(bench.folder / "digests")
    found = []
    unread = []
    for one in state.left:
        if one.why == "large":
            path = bench.root / os.fsdecode(one.path)
            if not cache.knows(path):
                report(Event(kind=EventKind.STEP, message=f"Digesting {shown(one.path)}"))
            try:
                found.append(LargeFile(path=os.fsdecode(one.path), size=path.stat().st_size, sha256=cache.sha256(path)))
            except OSError as error:
                unread.append(f"{shown(one.path)} could not be read: {error.strerror}")
    cache.save()
    return tuple(found), unread


def _notices(state: State, difference: Difference, bench: SnapshotIndex) -> list[str]:
    """Say what is not in the tree, and why."""
    why: dict[str, list[bytes]] = {}
    for one in state.left:
        why.setdefault(one.why, []).append(one.path)
    specials = {name for folder in state.folders.values() for name in folder.specials}
    specials -= _ignored(specials, bench) if specials else set()
    texts = {
        f"Too large to be stored (over {bench.limit:,} bytes), recorded by digest": why.get("large", []),
        "Neither file nor link (a pipe, a socket or a device), not part of the snapshot": [
            *sorted(specials | set(why.get("special", []))),
        ],
        "Can't be read, not part of the snapshot": why.get("unreadable", []),
        "Vanished while the project was frozen": why.get("vanished", []),
        "An environment that git does not ignore, left out of the snapshot": list(state.left_out),
        "Only a pointer of Git LFS, the content is not here (`git lfs pull`)": list(state.pointers),
        "Submodule not checked out, its files are missing (`git submodule update --init`)": list(state.listing.empty),
    }
    found = [f"{text}: {_some(paths)}" for text, paths in texts.items() if paths]
    found += [f"Part of the project can't be read: {complaint}" for complaint in state.listing.complaints]
    if difference.missing:
        found.append(f"Sparse checkout: {difference.missing} files of the commit are not here")
    if difference.unused:
        found.append(
            "A filter that only the repository's own configuration names is not run, so files that it changes may "
            f"count as changed (`git config --global` makes it yours): {', '.join(difference.unused)}"
        )
    return found


def _ignored(paths: set[bytes], bench: SnapshotIndex) -> set[bytes]:
    place = bench.lister.place(b"")
    done = run_git(place, "check-ignore", "-z", "--stdin", "--no-index", stdin=b"".join(path + b"\0" for path in paths))
    return set(done.stdout.split(b"\0")[:-1])


def _some(paths: list[bytes]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(shown(path) for path in paths[:_SHOWN]) + more


def keep_snapshot(snapshot: Snapshot, run_id: str, home: Home) -> None:
    """Keep the tree, and that of the commit that a dirty one differs from, for as long as the run is kept.

    Raises:
        SnapshotError: the vault no longer holds the tree.
    """
    code = snapshot.code
    about = About(
        commit=code.commit,
        dirty=code.dirty,
        remote=code.remote,
        root=os.fsencode(snapshot.root) if snapshot.root else None,
        large=tuple((os.fsencode(one.path), one.size, one.sha256) for one in snapshot.large),
    )
    message = f"run {run_id}\n\n{msgspec.json.encode(about).decode()}"
    keep_commit(home, run_id, RunCommit(tree=code.tree, base=snapshot.base, message=message))


def read_about(commit: RunCommit) -> About:
    """Return what the vault's commit says of a run besides its tree.

    Raises:
        msgspec.DecodeError: it can't be read.
    """
    return msgspec.json.decode(commit.message.partition("\n\n")[2], type=About)


def read_large(commit: RunCommit) -> tuple[Path | None, tuple[LargeFile, ...]]:
    """Return the project's top and the large files of a run, as `keep_snapshot` wrote them down."""
    about = read_about(commit)
    large = (LargeFile(path=os.fsdecode(path), size=size, sha256=digest) for path, size, digest in about.large)
    return Path(os.fsdecode(about.root)) if about.root else None, tuple(large)


def tree_again(source: Source, home: Home) -> str:
    """Return the tree of the work tree as it is now, for a run that worked in place."""
    return take_snapshot(source, home, lambda _event: None).code.tree
