"""Provides a run with files outside the tree: ignored files of the project and files too large to be stored.

Folders are created. A file is cloned (it shares blocks with the user's file until one of them is written) if the file
system supports it, else copied if it is small, else linked. A run that writes to a file changes the user's file only if
the file is linked.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from runner.base.files import Stamp, clone_at, copy_at, open_regular
from runner.base.safe_paths import LinkError, OpenTree, open_file, open_tree, remove_at, status_at
from runner.source.checkout import Provided
from runner.source.gitcommand import run_concurrently, run_git
from runner.source.listing import Lister
from runner.source.unwanted import ENVIRONMENT_MARKS, is_unwanted_file, is_unwanted_folder

COPY_LIMIT = 64 << 20
"""Bytes of the largest file that is copied."""
COPY_LIMIT = 1 << 30
"""Bytes of all files that are copied for one run."""
MOST_FILES = 50_000
"""Files in one ignored folder; a folder with more files is linked as a whole, with a warning."""


class FileToProvide(Struct, frozen=True, array_like=True):
    """A file to provide: its path in the run folder, its origin, its SHA-256 if known, and whether to copy it."""

    path: bytes
    origin: bytes
    sha256: str | None = None
    copied: bool = False


class FilesToProvide(Struct, frozen=True, kw_only=True):
    """The files to provide, the folders to create, and ``crowded``: folders with too many files, which are linked."""

    files: list[FileToProvide]
    folders: list[bytes]
    crowded: list[FileToProvide]


def list_ignored(lister: Lister, prefixes: Iterable[bytes]) -> list[bytes]:
    """Return ignored paths in the repositories of a project; a folder with only ignored files ends with ``/``."""

    def listed(prefix: bytes) -> list[bytes]:
        arguments = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        done = run_git(lister.git_directory(prefix), *arguments)
        return [prefix + name for name in done.stdout.split(b"\0")[:-1]]

    if not lister.ignoring:
        return []
    return [path for paths in run_concurrently(*(partial(listed, prefix) for prefix in prefixes)) for path in paths]


def choose_ignored(root: Path, ignored: Iterable[bytes], home: Path, without: Iterable[bytes]) -> FilesToProvide:
    """Return the ignored files to provide: all except environments, caches, run stores and the run's outputs."""
    found = FilesToProvide(files=[], folders=[], crowded=[])
    top = os.fsencode(root) + b"/"
    own = os.fsencode(home)
    # Below proj's home some folders have their own .gitignore, such as uv's cache.
    skipped = (*without, own[len(top) :]) if own.startswith(top) else tuple(without)
    for path in sorted(ignored):
        if any(part and is_unwanted_folder(part) for part in _parents(path)) or is_below(path, skipped):
            continue
        if not path.endswith(b"/"):
            if not is_unwanted_file(path) and os.path.lexists(top + path):
                found.files.append(FileToProvide(path, top + path))
        elif not _walk(top, path.rstrip(b"/"), skipped, found):
            found.crowded.append(FileToProvide(path.rstrip(b"/"), top + path.rstrip(b"/")))
    return found


def _parents(path: bytes) -> Iterator[bytes]:
    folder = path.rstrip(b"/") if path.endswith(b"/") else path.rpartition(b"/")[0]
    while folder:
        yield folder
        folder = folder.rpartition(b"/")[0]


def is_below(path: bytes, folders: tuple[bytes, ...]) -> bool:
    """Return whether a path is one of these folders or in one of them."""
    tidy = path.rstrip(b"/")
    return any(tidy == folder or tidy.startswith(folder + b"/") for folder in folders)


def _walk(top: bytes, start: bytes, skipped: tuple[bytes, ...], found: FilesToProvide) -> bool:
    """Add the files below an ignored folder; return False and add nothing if there are more than `MOST_FILES`."""
    files: list[FileToProvide] = []
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
            if is_below(path, skipped):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.extend(() if is_unwanted_folder(path) else (path,))
            elif (entry.is_file() or entry.is_symlink()) and not is_unwanted_file(path):
                files.append(FileToProvide(path, top + path))
        if len(files) > MOST_FILES:
            return False
    found.files.extend(files)
    found.folders.extend(folders)
    return True


def provide_files(top: Path, wanted: FilesToProvide, before: Mapping[bytes, Provided]) -> dict[bytes, Provided]:
    """Provide files in a checked-out folder; unchanged files that were provided ``before`` stay.

    No link below the folder is followed: what is behind it is the user's.

    Raises:
        OSError: the disk is full.
    """
    with open_tree(top.parent, (top.name,), create=True) as tree:
        wants = {want.path: want for want in (*wanted.files, *wanted.crowded)}
        _remove_unwanted(tree, before, wants)
        for folder in wanted.folders:
            with suppress(LinkError, OSError):  # the tree has a file or a link there
                tree.folder(folder, create=True)
        copier = _Copier()
        found: dict[bytes, Provided] = {}
        for want in wants.values():
            with suppress(LinkError), _unless_the_disk_is_full():
                entry = tree.parent(want.path, create=True)
                found[want.path] = _kept(before.get(want.path), want, entry) or copier.put(want, entry)
        return found


@contextmanager
def _unless_the_disk_is_full() -> Iterator[None]:
    """Suppress errors about one file: the file is gone, or the tree has a file in the way."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise


def _remove_unwanted(tree: OpenTree, before: Mapping[bytes, Provided], wants: Mapping[bytes, FileToProvide]) -> None:
    """Remove what was provided to an earlier run if the project no longer has it, or the tree has it now."""
    for path, provided in before.items():
        want = wants.get(path)
        if want is None or want.origin != provided.origin:
            with suppress(LinkError, OSError):
                parent, name = tree.parent(path)
                if Stamp.of(os.stat(name, dir_fd=parent, follow_symlinks=False)) == provided.stamp:
                    os.unlink(name, dir_fd=parent)


def _kept(known: Provided | None, want: FileToProvide, entry: tuple[int, str]) -> Provided | None:
    """Return the record of a file that was provided before, if the file can stay."""
    there = status_at(*entry)
    if known is None or known.origin != want.origin or there is None or Stamp.of(there) != known.stamp:
        return None
    before = origin_stamp(want.origin)
    if known.how == "linked":
        if want.copied:
            return None
        return structs.replace(known, before=before, sha256=want.sha256)
    return known if known.before == before else None


def origin_stamp(origin: bytes) -> Stamp:
    """Return the stamp of a user's file; links are followed unless they are broken.

    Raises:
        OSError: the file does not exist.
    """
    try:
        return Stamp.of(os.stat(origin))  # noqa: PTH116  # bytes have no Path
    except OSError:
        return Stamp.of(os.lstat(origin))


def _holds_secrets(name: str) -> bool:
    """Return whether a file is one of variables, such as ``.env`` and ``.env.local``, of which no copy should exist."""
    return name == ".env" or name.startswith(".env.")


class _Copier:
    """Provides files by the cheapest safe method: clone, copy or link."""

    def __init__(self) -> None:
        self._space = COPY_LIMIT
        self._clones = True

    def put(self, want: FileToProvide, entry: tuple[int, str]) -> Provided:
        """Provide one file, given by its open folder and its name there.

        Raises:
            OSError: the file can't be read, or the disk is full.
        """
        folder, name = entry
        origin = Path(os.fsdecode(want.origin))
        if want.copied:
            origin = origin.resolve()  # the content, also of a link
        status = origin.lstat()
        if status_at(folder, name) is not None:
            remove_at(folder, name)
        is_copied = stat.S_ISREG(status.st_mode) and not _holds_secrets(origin.name)
        size = 0 if want.copied else status.st_size
        how = self._fill(origin, size, folder, name) if is_copied else "linked"
        if how == "linked":
            os.symlink(origin.resolve(), name, dir_fd=folder)
            before = origin_stamp(want.origin)
        else:
            before = Stamp.of(status)
            with open_file(folder, name) as file:
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
                os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        stamp = Stamp.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
        return Provided(want.origin, how, before, stamp, want.sha256)

    def _fill(self, origin: Path, size: int, folder: int, name: str) -> str:
        """Copy the content and return the method; ``linked`` means that the caller must create the link."""
        with open_regular(origin) as source:
            self._clones = self._clones and clone_at(source.fileno(), folder, name)
            how = "cloned" if self._clones else "copied"
            if how == "copied":
                if size > min(COPY_LIMIT, self._space):
                    return "linked"
                copy_at(source, folder, name)
                self._space -= size
        return how
