"""Files beside the tree: what the project has and git ignores, and what is too large, made available to a run.

Folders are real ones. A file shares its blocks with the user's until one of the two is written, where the file system
can do that; else it is copied when it is small, else linked. So what a run writes stays in its folder, but for files
that are linked.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from runner.base.files import Stamp, clone_file, remove_tree
from runner.source.checkout import Provided
from runner.source.gitcommand import run_git, together
from runner.source.listing import Lister
from runner.source.unwanted import ENVIRONMENT_MARKS, is_unwanted_file, is_unwanted_folder

COPY_LIMIT = 64 << 20
"""Bytes up to which one file is copied."""
COPY_ROOM = 1 << 30
"""Bytes that are copied for one run altogether."""
MOST_FILES = 50_000
"""Files in one ignored folder; one with more is linked as a whole, and the user is told what that means."""


class Want(Struct, frozen=True, array_like=True):
    """A file to be made available: where it goes, from where, and its digest where it is known."""

    path: bytes
    origin: bytes
    sha256: str | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """All files to be made available, folders to be made, and folders too large for that."""

    files: list[Want]
    folders: list[bytes]
    crowded: list[Want]


def list_ignored(lister: Lister, prefixes: Iterable[bytes]) -> list[bytes]:
    """Return what git ignores in the repositories of a project; a folder with nothing else in it ends with ``/``."""

    def listed(prefix: bytes) -> list[bytes]:
        words = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        done = run_git(lister.place(prefix), *words)
        return [prefix + name for name in done.stdout.split(b"\0")[:-1]]

    if not lister.ignoring:
        return []
    return [path for paths in together(*(partial(listed, prefix) for prefix in prefixes)) for path in paths]


def choose(root: Path, ignored: Iterable[bytes], home: Path, without: Iterable[bytes]) -> Wanted:
    """Choose what of the ignored is made available: no environments, caches, run stores, nor the run's own outputs."""
    found = Wanted(files=[], folders=[], crowded=[])
    top = os.fsencode(root) + b"/"
    own = os.fsencode(home)
    # Below proj's home there may be folders that ignore themselves, as uv's cache does.
    skipped = (*without, own[len(top) :]) if own.startswith(top) else tuple(without)
    for path in sorted(ignored):
        if any(part and is_unwanted_folder(part) for part in _parents(path)) or _is_below(path, skipped):
            continue
        if not path.endswith(b"/"):
            if not is_unwanted_file(path) and os.path.lexists(top + path):
                found.files.append(Want(path, top + path))
        elif not _walk(top, path.rstrip(b"/"), skipped, found):
            found.crowded.append(Want(path.rstrip(b"/"), top + path.rstrip(b"/")))
    return found


def _parents(path: bytes) -> Iterator[bytes]:
    folder = path.rstrip(b"/") if path.endswith(b"/") else path.rpartition(b"/")[0]
    while folder:
        yield folder
        folder = folder.rpartition(b"/")[0]


def _is_below(path: bytes, folders: tuple[bytes, ...]) -> bool:
    tidy = path.rstrip(b"/")
    return any(tidy == folder or tidy.startswith(folder + b"/") for folder in folders)


def _walk(top: bytes, start: bytes, skipped: tuple[bytes, ...], found: Wanted) -> bool:
    """Add what is below an ignored folder; False, with nothing added, when that is too much."""
    files: list[Want] = []
    folders: list[bytes] = []
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(top + folder) as entries:
                here = list(entries)
        except OSError:
            continue
        if any(entry.name in ENVIRONMENT_MARKS for entry in here):
            continue
        folders.append(folder)
        for entry in here:
            path = folder + b"/" + entry.name
            if _is_below(path, skipped):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.extend(() if is_unwanted_folder(path) else (path,))
            elif (entry.is_file() or entry.is_symlink()) and not is_unwanted_file(path):
                files.append(Want(path, top + path))
        if len(files) > MOST_FILES:
            return False
    found.files.extend(files)
    found.folders.extend(folders)
    return True


def provide(top: Path, wanted: Wanted, before: Mapping[bytes, Provided]) -> dict[bytes, Provided]:
    """Make files available in a laid out folder; what lies there already from before, untouched, stays."""
    start = os.fsencode(top) + b"/"
    for folder in wanted.folders:
        with suppress(FileExistsError, NotADirectoryError):
            os.makedirs(start + folder, exist_ok=True)  # noqa: PTH103  # bytes have no Path
    copier = _Copier()
    found: dict[bytes, Provided] = {}
    for want in (*wanted.files, *wanted.crowded):
        known = before.get(want.path)
        place = start + want.path
        with suppress(OSError):  # gone meanwhile, or the tree has a file where this one's folder would be
            found[want.path] = _kept(known, want, place) or copier.put(want, place)
    for path in before.keys() - found.keys():
        with suppress(OSError):  # of an earlier run: the project has it no more, or the tree has it now
            if Stamp.of(os.lstat(start + path)) == before[path].stamp:
                os.unlink(start + path)  # noqa: PTH108  # bytes have no Path
    return found


def _kept(known: Provided | None, want: Want, place: bytes) -> Provided | None:
    """Return what is known of a file that lies there from before, if it can stay."""
    if known is None or known.origin != want.origin or not os.path.lexists(place):
        return None
    if Stamp.of(os.lstat(place)) != known.stamp:
        return None
    before = origin_stamp(want.origin)
    if known.how == "linked":
        return structs.replace(known, before=before, sha256=want.sha256)
    return known if known.before == before else None


def origin_stamp(origin: bytes) -> Stamp:
    """Return the stamp of a file of the user's, links followed as far as they lead anywhere.

    Raises:
        OSError: the file is gone.
    """
    try:
        return Stamp.of(os.stat(origin))  # noqa: PTH116  # bytes have no Path
    except OSError:
        return Stamp.of(os.lstat(origin))


class _Copier:
    """Puts files in place, the cheapest safe way first."""

    def __init__(self) -> None:
        self._room = COPY_ROOM
        self._clones = True

    def put(self, want: Want, place: bytes) -> Provided:
        """Put one file in place.

        Raises:
            OSError: it can't be read, or there is no room for it.
        """
        origin, target = Path(os.fsdecode(want.origin)), Path(os.fsdecode(place))
        status = origin.lstat()
        if os.path.lexists(place):
            remove_tree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        how = self._fill(origin, target, status.st_size) if stat.S_ISREG(status.st_mode) else "linked"
        if how == "linked":
            target.symlink_to(origin.resolve())
            return Provided(want.origin, how, origin_stamp(want.origin), Stamp.of(target.lstat()), want.sha256)
        target.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        return Provided(want.origin, how, Stamp.of(status), Stamp.of(target.lstat()), want.sha256)

    def _fill(self, origin: Path, target: Path, size: int) -> str:
        """Return how the content came to its place; ``linked`` when that is still to be done."""
        if self._clones:
            self._clones = clone_file(origin, target)
            if self._clones:
                return "cloned"
        if size > min(COPY_LIMIT, self._room):
            return "linked"
        import shutil

        shutil.copyfile(origin, target)
        self._room -= size
        return "copied"
