"""Putting the files of a folder into the vault as one tree, at the price of looking at them when nothing changed."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.files import Stamp, locked, write_atomically
from runner.errors import SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, Settings, git, run_git, together
from runner.source.intake import Taken, take_files
from runner.source.listing import UNTRACKED, Files, Lister, Listing, folders_of, read_listing
from runner.source.snapshot_store import new_objects, snapshot_store_git_directory
from runner.source.stat_cache import fill_stats

STATE_VERSION = 2

ABSENT = "absent"
SPARSE = b"S"
"""The letter of ``git ls-files -v`` for what a sparse checkout leaves out."""

SIZE_LIMIT = 100 * 1000 * 1000
"""Bytes from which on a file is recorded by its digest instead of being stored."""

_CULPRIT = r"(?m)^fatal: git update-index: unable to update (.+)$"
_RACY_BYTES, _RACY_FILES = 1 << 20, 200
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_SIZE = range(100, 400)
_MOST_NAMES = 50
"""Names that git refuses, each of which costs a process."""
_INDEX: Settings = (("index.version", "2"), ("core.splitIndex", "false"), ("core.untrackedCache", "false"))
"""The index is read by `fill_stats` too, whatever the user has configured for other repositories."""


class Left(Struct, frozen=True):
    """A file that is part of the project and not of the tree, and why.

    It is ``large``, ``special`` or ``unreadable``; ``vanished`` while it was read; or ``absent`` although git knows it.
    """

    path: bytes
    why: str
    stamp: Stamp | None = None


class Folder(Struct, frozen=True, array_like=True):
    """When a folder was changed last, and what is in it that is neither file, link nor folder."""

    changed: int
    specials: tuple[bytes, ...] = ()


class State(Struct, frozen=True, kw_only=True):
    """What was found the last time, beside the index that it is about."""

    version: int = STATE_VERSION
    index: Stamp
    tree: str
    limit: int
    listing: Listing
    left: tuple[Left, ...] = ()
    left_out: tuple[bytes, ...] = ()
    folders: dict[bytes, Folder] = {}
    pointers: tuple[bytes, ...] = ()
    racy: bool = False
    """Git compares times by the second: many files as young as the index would be read again and again."""


class SnapshotIndex(Struct, frozen=True, kw_only=True):
    """Where one folder is frozen: its index in proj's home, with the state beside it."""

    root: Path
    home: Home
    limit: int
    ignoring: bool = True

    @property
    def folder(self) -> Path:
        """The folder of the index and the state."""
        return self.home.indexes / project_key(self.root)

    @property
    def index(self) -> Path:
        """The index, kept for what it knows about the files."""
        return self.folder / "index"

    @property
    def lister(self) -> Lister:
        """Who asks git what the project consists of."""
        return Lister(root=self.root, home=self.home, ignoring=self.ignoring)

    @property
    def place(self) -> GitDirectory:
        """Where git works on the vault, the index and the folder."""
        return msgspec.structs.replace(snapshot_store_git_directory(self.home, index=self.index), work_tree=self.root)

    def git(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run git on the vault, the index and the folder."""
        return git(self.place, *words, stdin=stdin, settings=_INDEX)


def project_key(root: Path | str) -> str:
    """Return the name under which proj keeps things about one project folder or URL."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:24]


def known_prefixes(bench: SnapshotIndex) -> tuple[bytes, ...]:
    """Return the folders of the repositories in a project, as far as they were found when it was frozen."""
    state = state_of(bench.folder)
    return tuple(state.listing.raw) if state else (b"",)


def freeze(bench: SnapshotIndex, report: Report) -> State:
    """Bring the index up to the files and return what there is, with the tree.

    Raises:
        SnapshotError: git can't list or take in the files.
    """

    def waiting() -> None:
        report(Event(kind=EventKind.STEP, message="Waiting for another run that freezes the same project"))

    with locked(bench.folder / "lock", waiting=waiting):
        (bench.folder / "index.lock").unlink(missing_ok=True)  # of a process that was killed: the lock is ours
        known = _load(bench)
        if known is None:
            bench.index.unlink(missing_ok=True)
        elif known.racy:
            bench.git("update-index", "-q", "--refresh", "--force-write-index")
        state = _state(bench, known)
        if state != known or (known and known.racy):
            (bench.folder / "root").write_bytes(os.fsencode(bench.root))
            write_atomically(bench.folder / "state", msgspec.msgpack.encode(state))
    return state


def _load(bench: SnapshotIndex) -> State | None:
    state = state_of(bench.folder)
    return state if state and state.limit == bench.limit else None


def state_of(folder: Path) -> State | None:
    """Return what was found the last time, unless the index beside it was changed since."""
    try:
        state = msgspec.msgpack.decode((folder / "state").read_bytes(), type=State)
        index = Stamp.of((folder / "index").stat())
    except (OSError, msgspec.DecodeError):
        return None
    return state if state.version == STATE_VERSION and state.index == index else None


def _state(bench: SnapshotIndex, known: State | None) -> State:
    listing, touched = _look(bench, known)
    if known and listing.raw == known.listing.raw and not touched and _unchanged(bench, known.left):
        folders = _scan(bench.root, known.folders, known.folders)
        index = Stamp.of(bench.index.stat())
        racy = known.racy and _second(index) == _second(known.index)
        return msgspec.structs.replace(known, listing=listing, folders=folders, index=index, racy=racy)
    files = read_listing(listing)
    held = set(_split(bench.git("ls-files", "-z"))) if bench.index.exists() else set()
    fresh = (files.tags.keys() - held) | (touched & files.tags.keys())
    taken, left = _sort(bench, fresh, files)
    gone = (held - files.tags.keys()) | (held & (fresh - taken.keys()))
    left += _take(bench, taken, gone)
    with new_objects(bench.home, index=bench.index) as place:
        tree = git(place, "write-tree").decode().strip()
    index = Stamp.of(bench.index.stat())
    young = [stamp.size for stamp in taken.values() if _second(stamp) >= _second(index)]
    return State(
        index=index,
        tree=tree,
        limit=bench.limit,
        listing=listing,
        left=tuple(sorted(left, key=lambda one: one.path)),
        left_out=files.left_out,
        folders=_scan(bench.root, folders_of(iter(files.tags)), known.folders if known else {}),
        pointers=_pointers(bench, files, set(taken), known.pointers if known else ()),
        racy=len(young) > _RACY_FILES or sum(young) > _RACY_BYTES,
    )


def _second(stamp: Stamp) -> int:
    return stamp.modified // 10**9


def _look(bench: SnapshotIndex, known: State | None) -> tuple[Listing, set[bytes]]:
    """List the files and find those that the index no longer describes, both at once."""
    listings: list[Listing] = []
    touched: list[bytes] = []
    together(
        lambda: listings.append(bench.lister.listing(known.listing if known else None)),
        lambda: touched.extend(_split(bench.git("diff-files", "--name-only", "-z"))) if known else None,
    )
    return listings[0], set(touched)


def _split(output: bytes) -> list[bytes]:
    return output.split(b"\0")[:-1]


def _unchanged(bench: SnapshotIndex, left: Iterable[Left]) -> bool:
    return all(_stamp(bench.root, one.path) == one.stamp for one in left)


def _stamp(root: Path, path: bytes) -> Stamp | None:
    try:
        return Stamp.of(os.lstat(os.path.join(os.fsencode(root), path)))  # noqa: PTH118  # bytes have no Path
    except OSError:
        return None


def _sort(bench: SnapshotIndex, paths: Iterable[bytes], files: Files) -> tuple[dict[bytes, Stamp], list[Left]]:
    """Part the files that may be read, in the order of their names, from those that must not, or can't."""
    taken: dict[bytes, Stamp] = {}
    left: list[Left] = []
    top = os.fsencode(bench.root)
    folders = {b"": True}
    for path in sorted(paths):
        stamp = _stamp(bench.root, path) if _is_real(top, path.rpartition(b"/")[0], folders) else None
        why = _why_not(os.path.join(top, path), stamp, bench.limit)  # noqa: PTH118  # bytes have no Path
        if stamp is None and files.tags[path] == UNTRACKED:
            left.append(Left(path, "vanished"))
        elif why:
            left.append(Left(path, why, stamp))
        elif stamp is None:
            if files.tags[path] != SPARSE:
                left.append(Left(path, ABSENT))  # it leaves the index, which then can't tell that it came back
        elif not stat.S_ISDIR(stamp.mode):
            taken[path] = stamp
    return taken, left


def _is_real(top: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    """Say whether a folder is reached without a link: what lies beyond one is not at this path."""
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


def _take(bench: SnapshotIndex, taken: dict[bytes, Stamp], gone: set[bytes]) -> list[Left]:
    """Put files into the vault and the index; return those that could not be read to their end."""
    intake = take_files(
        bench.home, os.fsencode(bench.root), {path: stamp.size for path, stamp in taken.items()}, bench.limit
    )
    left = [Left(path, why, _stamp(bench.root, path)) for path, why in intake.refused.items()]
    entries = dict(intake.taken)
    refused = _enter(bench, entries, gone | intake.refused.keys())
    left.extend(Left(path, "unreadable", _stamp(bench.root, path)) for path in refused)
    fill_stats(bench.index, {path: (one.identity, one.status) for path, one in entries.items() if one.status})
    return left


def _enter(bench: SnapshotIndex, entries: dict[bytes, Taken], gone: Iterable[bytes]) -> list[bytes]:
    """Put entries into the index; return those that git refuses for their names, which are taken off."""
    removed = b"".join(b"0 " + b"0" * 40 + b"\t" + path + b"\0" for path in sorted(gone))
    if not bench.index.exists():
        bench.git("read-tree", "--empty")
    refused: list[bytes] = []
    for _ in range(_MOST_NAMES):
        lines = (b"%s %s\t%s\0" % (one.mode, one.identity.encode(), path) for path, one in entries.items())
        words = ("update-index", "--index-version", "2", "-z", "--index-info")
        done = run_git(bench.place, *words, stdin=removed + b"".join(lines), settings=_INDEX)
        if done.exit_code == 0:
            return refused
        culprit = re.search(_CULPRIT, done.stderr.decode("utf-8", "surrogateescape"))
        path = os.fsencode(culprit[1]) if culprit else b""
        if path not in entries:
            raise SnapshotError("git can't take in the project's files", context=done.error_text)
        del entries[path]
        refused.append(path)
    raise SnapshotError("The project has many files whose names git refuses", context=os.fsdecode(refused[0]))


def _scan(root: Path, folders: Iterable[bytes], known: dict[bytes, Folder]) -> dict[bytes, Folder]:
    """Find pipes, sockets and devices, which git passes over in silence; a folder that did not change is not read."""
    found: dict[bytes, Folder] = {}
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
            found[folder] = Folder(changed, names)
    return found


def _is_special(entry: "os.DirEntry[bytes]") -> bool:
    return not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink())


def _pointers(bench: SnapshotIndex, files: Files, taken: set[bytes], before: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Find the files whose content Git LFS did not bring: they hold a pointer to it."""
    top = os.fsencode(bench.root)
    if not any(_says_lfs(os.path.join(top, path)) for path in files.tags if path.endswith(b".gitattributes")):  # noqa: PTH118
        return ()
    found = {path for path in before if path in files.tags and path not in taken}
    for path in taken:
        stamp = _stamp(bench.root, path)
        if stamp and stat.S_ISREG(stamp.mode) and stamp.size in _POINTER_SIZE:
            with suppress(OSError), (bench.root / os.fsdecode(path)).open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    found.add(path)
    return tuple(sorted(found))


def _says_lfs(path: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its other end
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and b"filter=lfs" in file.read()
