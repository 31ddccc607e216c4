"""Stores the files of a folder as one tree in the snapshot store; unchanged files are not read again."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.files import Stamp, write_atomically
from runner.base.locks import locked
from runner.errors import SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, Settings, git, run_concurrently, run_git
from runner.source.intake import StoredFile, store_files
from runner.source.listing import UNTRACKED, Files, Lister, Listing, folders_of, read_listing
from runner.source.snapshot_store import new_objects, store_git_directory
from runner.source.stat_cache import fill_stats

STATE_VERSION = 2

ABSENT = "absent"
SPARSE = b"S"
"""The tag of ``git ls-files -v`` for files that a sparse checkout leaves out."""

SIZE_LIMIT = 100 * 1000 * 1000
"""Bytes of the largest file that is stored; a larger file is recorded by its digest."""

_CULPRIT = r"(?m)^fatal: git update-index: unable to update (.+)$"
_RACY_BYTES, _RACY_FILES = 1 << 20, 200
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_SIZE = range(100, 400)
_MOST_NAMES = 50
"""Names refused by git before proj gives up; each one costs a git process."""
_INDEX: Settings = (("index.version", "2"), ("core.splitIndex", "false"), ("core.untrackedCache", "false"))
"""`fill_stats` reads this index format, so the user's configuration must not change it."""


class SkippedFile(Struct, frozen=True):
    """A file of the project that is not in the tree, with the reason.

    The reason is ``large``, ``special``, ``unreadable``, ``vanished`` (deleted while proj read it) or ``absent``
    (tracked by git, but missing).
    """

    path: bytes
    why: str
    stamp: Stamp | None = None


class FolderState(Struct, frozen=True, array_like=True):
    """The modification time of a folder, and its entries that are neither file, link nor folder."""

    changed: int
    specials: tuple[bytes, ...] = ()


class State(Struct, frozen=True, kw_only=True):
    """The result of the last freeze of a folder. It is valid for one state of the index."""

    version: int = STATE_VERSION
    index: Stamp
    tree: str
    limit: int
    listing: Listing
    left: tuple[SkippedFile, ...] = ()
    skipped_environments: tuple[bytes, ...] = ()
    folders: dict[bytes, FolderState] = {}
    pointers: tuple[bytes, ...] = ()
    racy: bool = False
    """Whether git would read many files again: it compares times in seconds, and they are as new as the index."""


class SnapshotIndex(Struct, frozen=True, kw_only=True):
    """The git index of one folder, kept in proj's home with the state of the last freeze."""

    root: Path
    home: Home
    limit: int
    ignoring: bool = True

    @property
    def folder(self) -> Path:
        """The folder with the index and the state."""
        return self.home.indexes / project_key(self.root)

    @property
    def index(self) -> Path:
        """The index file, kept for its file status."""
        return self.folder / "index"

    @property
    def lister(self) -> Lister:
        """The lister of the project's files."""
        return Lister(root=self.root, home=self.home, ignoring=self.ignoring)

    @property
    def git_directory(self) -> GitDirectory:
        """The snapshot store with this index, and the folder as its work tree."""
        return msgspec.structs.replace(store_git_directory(self.home, index=self.index), work_tree=self.root)

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git with the snapshot store, this index and the folder."""
        return git(self.git_directory, *arguments, stdin=stdin, settings=_INDEX)


def project_key(root: Path | str) -> str:
    """Return the name of the files that proj keeps for one project folder or URL."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:24]


def known_prefixes(snapshot_index: SnapshotIndex) -> tuple[bytes, ...]:
    """Return the folders of the repositories in a project that the last freeze found."""
    state = state_of(snapshot_index.folder)
    return tuple(state.listing.raw) if state else (b"",)


def freeze(snapshot_index: SnapshotIndex, report: Report) -> State:
    """Update the index from the files and return the new state with its tree.

    Raises:
        SnapshotError: git can't list or store the files.
    """

    def waiting() -> None:
        report(Event(kind=EventKind.STEP, message="Waiting for another run that takes a snapshot of the same project"))

    with locked(snapshot_index.folder / "lock", waiting=waiting):
        (snapshot_index.folder / "index.lock").unlink(missing_ok=True)  # of a killed process: this one holds the lock
        known = _load(snapshot_index)
        if known is None:
            snapshot_index.index.unlink(missing_ok=True)
        elif known.racy:
            snapshot_index.git("update-index", "-q", "--refresh", "--force-write-index")
        state = _state(snapshot_index, known)
        if state != known or (known and known.racy):
            (snapshot_index.folder / "root").write_bytes(os.fsencode(snapshot_index.root))
            write_atomically(snapshot_index.folder / "state", msgspec.msgpack.encode(state))
    return state


def _load(snapshot_index: SnapshotIndex) -> State | None:
    state = state_of(snapshot_index.folder)
    return state if state and state.limit == snapshot_index.limit else None


def state_of(folder: Path) -> State | None:
    """Return the state of the last freeze, or None if the index was changed since."""
    try:
        state = msgspec.msgpack.decode((folder / "state").read_bytes(), type=State)
        index = Stamp.of((folder / "index").stat())
    except (OSError, msgspec.DecodeError):
        return None
    return state if state.version == STATE_VERSION and state.index == index else None


def _state(snapshot_index: SnapshotIndex, known: State | None) -> State:
    listing, touched = _look(snapshot_index, known)
    if known and listing.raw == known.listing.raw and not touched and _unchanged(snapshot_index, known.left):
        folders = _scan(snapshot_index.root, known.folders, known.folders)
        index = Stamp.of(snapshot_index.index.stat())
        racy = known.racy and _second(index) == _second(known.index)
        return msgspec.structs.replace(known, listing=listing, folders=folders, index=index, racy=racy)
    files = read_listing(listing)
    held = set(_split(snapshot_index.git("ls-files", "-z"))) if snapshot_index.index.exists() else set()
    fresh = (files.tags.keys() - held) | (touched & files.tags.keys())
    taken, left = _sort(snapshot_index, fresh, files)
    gone = (held - files.tags.keys()) | (held & (fresh - taken.keys()))
    left += _take(snapshot_index, taken, gone)
    with new_objects(snapshot_index.home, index=snapshot_index.index) as git_directory:
        tree = git(git_directory, "write-tree").decode().strip()
    index = Stamp.of(snapshot_index.index.stat())
    young = [stamp.size for stamp in taken.values() if _second(stamp) >= _second(index)]
    return State(
        index=index,
        tree=tree,
        limit=snapshot_index.limit,
        listing=listing,
        left=tuple(sorted(left, key=lambda one: one.path)),
        skipped_environments=files.skipped_environments,
        folders=_scan(snapshot_index.root, folders_of(iter(files.tags)), known.folders if known else {}),
        pointers=_pointers(snapshot_index, files, set(taken), known.pointers if known else ()),
        racy=len(young) > _RACY_FILES or sum(young) > _RACY_BYTES,
    )


def _second(stamp: Stamp) -> int:
    return stamp.modified // 10**9


def _look(snapshot_index: SnapshotIndex, known: State | None) -> tuple[Listing, set[bytes]]:
    """List the files and, at the same time, find those whose index entry is out of date."""
    listings: list[Listing] = []
    touched: list[bytes] = []
    run_concurrently(
        lambda: listings.append(snapshot_index.lister.listing(known.listing if known else None)),
        lambda: touched.extend(_split(snapshot_index.git("diff-files", "--name-only", "-z"))) if known else None,
    )
    return listings[0], set(touched)


def _split(output: bytes) -> list[bytes]:
    return output.split(b"\0")[:-1]


def _unchanged(snapshot_index: SnapshotIndex, left: Iterable[SkippedFile]) -> bool:
    return all(_stamp(snapshot_index.root, one.path) == one.stamp for one in left)


def _stamp(root: Path, path: bytes) -> Stamp | None:
    try:
        return Stamp.of(os.lstat(os.path.join(os.fsencode(root), path)))  # noqa: PTH118  # bytes have no Path
    except OSError:
        return None


def _sort(
    snapshot_index: SnapshotIndex, paths: Iterable[bytes], files: Files
) -> tuple[dict[bytes, Stamp], list[SkippedFile]]:
    """Separate the files to be stored, in the order of their names, from those to be skipped."""
    taken: dict[bytes, Stamp] = {}
    left: list[SkippedFile] = []
    top = os.fsencode(snapshot_index.root)
    folders = {b"": True}
    for path in sorted(paths):
        stamp = _stamp(snapshot_index.root, path) if _is_real(top, path.rpartition(b"/")[0], folders) else None
        why = _why_not(os.path.join(top, path), stamp, snapshot_index.limit)  # noqa: PTH118  # bytes have no Path
        if stamp is None and files.tags[path] == UNTRACKED:
            left.append(SkippedFile(path, "vanished"))
        elif why:
            left.append(SkippedFile(path, why, stamp))
        elif stamp is None:
            if files.tags[path] != SPARSE:
                left.append(SkippedFile(path, ABSENT))  # it leaves the index, so the index can't show its return
        elif not stat.S_ISDIR(stamp.mode):
            taken[path] = stamp
    return taken, left


def _is_real(top: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    """Tell whether no part of a folder's path is a link; files behind a link are not part of the tree."""
    if folder not in known:
        is_link = os.path.islink(os.path.join(top, folder))  # noqa: PTH114, PTH118  # bytes have no Path
        known[folder] = not is_link and _is_real(top, folder.rpartition(b"/")[0], known)
    return known[folder]


def _why_not(path: bytes, stamp: Stamp | None, limit: int) -> str | None:
    if stamp is None or stat.S_ISLNK(stamp.mode) or stat.S_ISDIR(stamp.mode):
        return None
    if not stat.S_ISREG(stamp.mode):
        return "special"
    if stamp.size > limit:
        return "large"
    return None if os.access(path, os.R_OK) else "unreadable"


def _take(snapshot_index: SnapshotIndex, taken: dict[bytes, Stamp], gone: set[bytes]) -> list[SkippedFile]:
    """Store files in the snapshot store and the index; return the files that could not be read."""
    intake = store_files(
        snapshot_index.home,
        os.fsencode(snapshot_index.root),
        {path: stamp.size for path, stamp in taken.items()},
        snapshot_index.limit,
    )
    left = [SkippedFile(path, why, _stamp(snapshot_index.root, path)) for path, why in intake.refused.items()]
    entries = dict(intake.taken)
    refused = _enter(snapshot_index, entries, gone | intake.refused.keys())
    left.extend(SkippedFile(path, "unreadable", _stamp(snapshot_index.root, path)) for path in refused)
    fill_stats(snapshot_index.index, {path: (one.identity, one.status) for path, one in entries.items() if one.status})
    return left


def _enter(snapshot_index: SnapshotIndex, entries: dict[bytes, StoredFile], gone: Iterable[bytes]) -> list[bytes]:
    """Add entries to the index; remove and return those whose names git refuses."""
    removed = b"".join(b"0 " + b"0" * 40 + b"\t" + path + b"\0" for path in sorted(gone))
    if not snapshot_index.index.exists():
        snapshot_index.git("read-tree", "--empty")
    refused: list[bytes] = []
    for _ in range(_MOST_NAMES):
        lines = (b"%s %s\t%s\0" % (one.mode, one.identity.encode(), path) for path, one in entries.items())
        arguments = ("update-index", "--index-version", "2", "-z", "--index-info")
        done = run_git(snapshot_index.git_directory, *arguments, stdin=removed + b"".join(lines), settings=_INDEX)
        if done.exit_code == 0:
            return refused
        culprit = re.search(_CULPRIT, done.stderr.decode("utf-8", "surrogateescape"))
        path = os.fsencode(culprit[1]) if culprit else b""
        if path not in entries:
            raise SnapshotError("git can't store the project's files", context=done.error_text)
        del entries[path]
        refused.append(path)
    raise SnapshotError("The project has many files whose names git refuses", context=os.fsdecode(refused[0]))


def _scan(root: Path, folders: Iterable[bytes], known: dict[bytes, FolderState]) -> dict[bytes, FolderState]:
    """Find pipes, sockets and devices, which git ignores silently; unchanged folders are not read again."""
    found: dict[bytes, FolderState] = {}
    top = os.fsencode(root)
    for folder in folders:
        path = os.path.join(top, folder)  # noqa: PTH118  # bytes have no Path
        with suppress(OSError):
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116  # likewise
            before = known.get(folder)
            if before and before.changed == changed:
                found[folder] = before
                continue
            with os.scandir(path) as entries:
                names = tuple(os.path.join(folder, entry.name) for entry in entries if _is_special(entry))  # noqa: PTH118
            found[folder] = FolderState(changed, names)
    return found


def _is_special(entry: "os.DirEntry[bytes]") -> bool:
    return not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink())


def _pointers(
    snapshot_index: SnapshotIndex, files: Files, taken: set[bytes], before: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """Find files that contain a Git LFS pointer instead of their content."""
    top = os.fsencode(snapshot_index.root)
    if not any(_says_lfs(os.path.join(top, path)) for path in files.tags if path.endswith(b".gitattributes")):  # noqa: PTH118
        return ()
    found = {path for path in before if path in files.tags and path not in taken}
    for path in taken:
        stamp = _stamp(snapshot_index.root, path)
        if stamp and stat.S_ISREG(stamp.mode) and stamp.size in _POINTER_SIZE:
            with suppress(OSError), (snapshot_index.root / os.fsdecode(path)).open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    found.add(path)
    return tuple(sorted(found))


def _says_lfs(path: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe must not block
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and b"filter=lfs" in file.read()
