"""Opens files below a root folder component by component, without following links.

A process that swaps a folder for a link while we are on the way changes nothing: each step starts at a folder that is
open, and a link is an error. A hard link is a file like any other: whoever made it could read the file anyway, and
files are replaced, never written in place, so that its other names keep their content.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runner.base.mounts import mount_of
from runner.errors import InvalidValueError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ID = re.compile(r"(?:m-)?[0-9a-f]{32}")
_TRIES = 10


class LinkError(InvalidValueError):
    """A symbolic link is on the way to an artifact."""


def split_root(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Split a root into the trusted folder and the names below it, in which no link is followed.

    The folder that is called as a run or a model is, and all below it, can be changed by the run; who put the folders
    above it where they are may have used links.
    """
    parts = root.absolute().parts
    for number in range(len(parts) - 1, 0, -1):
        if _ID.fullmatch(parts[number]):
            return Path(*parts[:number]), parts[number:]
    return root, ()


@contextmanager
def folder_at(root: Path, names: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
    """Open the folder of these names below a root, and yield its descriptor; ``create`` creates missing folders.

    Raises:
        LinkError: a link is on the way, the root included.
        FileNotFoundError: it is not there.
        NotADirectoryError: a file is on the way.
    """
    anchor, own = split_root(root)
    if create:
        anchor.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(anchor, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in (*own, *names):
            inner = _step(descriptor, name, create=create)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_tree(root: Path, names: Sequence[str] = (), *, create: bool = False) -> Iterator["OpenTree"]:
    """Open the folder of these names below a root, as `folder_at` does."""
    with folder_at(root, names, create=create) as descriptor:
        tree = OpenTree(descriptor)
        try:
            yield tree
        finally:
            tree.close()


class OpenTree:
    """A folder that stays open: what is below it is reached from its descriptor, and no link is followed on the way.

    The folder that was used last stays open too, so that many files of one folder cost little.
    """

    def __init__(self, top: int) -> None:
        """Start at a folder, given by its descriptor, which stays the caller's."""
        self._top = top
        self._last: tuple[list[str], int] = ([], os.dup(top))

    def close(self) -> None:
        """Close the folder."""
        os.close(self._last[1])

    def parent(self, path: bytes | str, *, create: bool = False) -> tuple[int, str]:
        """Return the open folder of a relative path, valid until the next call, and the name in it.

        ``create`` makes folders that are missing.

        Raises:
            LinkError: a link is on the way.
            InvalidValueError: the path leads out of the folder.
            OSError: a folder can't be opened.
        """
        *names, name = os.fsdecode(path).split("/")
        if not _NOT_BELOW.isdisjoint((*names, name)):
            raise InvalidValueError(f"'{_shown(os.fsdecode(path))}' is not a path below the folder")
        if names != self._last[0]:
            self._go(names, create=create)
        return self._last[1], name

    def folder(self, path: bytes | str, *, create: bool = False) -> int:
        """Return the descriptor of a folder below, valid until the next call; see `parent`."""
        _, name = self.parent(path, create=create)
        self._go([*self._last[0], name], create=create)
        return self._last[1]

    def _go(self, names: list[str], *, create: bool) -> None:
        descriptor = os.dup(self._top)
        try:
            for name in names:
                inner = _step(descriptor, name, create=create)
                os.close(descriptor)
                descriptor = inner
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._last[1])
        self._last = (names, descriptor)


_NOT_BELOW = frozenset(("", ".", ".."))


def status_at(folder: int, name: str) -> os.stat_result | None:
    """Return the file status of an entry of a folder, which may be a link; None if there is no such entry."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        raise


def open_file(folder: int, name: str) -> BinaryIO:
    """Open a regular file of a folder for reading; pipes and devices are not opened.

    Raises:
        LinkError: it is a link.
        FileNotFoundError: there is no such file, or it is none.
    """
    found = status_at(folder, name)
    if found is None or not stat.S_ISREG(found.st_mode):
        _refuse_link(found, name)
        raise FileNotFoundError(errno.ENOENT, "no such file", name)
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(name) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
    return os.fdopen(descriptor, "rb")


def new_file(folder: int, name: str) -> int:
    """Create a new file, and return its descriptor for writing."""
    return os.open(name, _NEW, 0o666, dir_fd=folder)


def remove_at(folder: int, name: str) -> int:
    """Remove an entry of a folder and everything below it, at any depth; links are removed, not followed.

    What others remove at the same time is no error. Returns the bytes of files that only this name kept.

    Raises:
        FileNotFoundError: there is no such entry.
        OSError: something can't be removed, or another file system is mounted there (EBUSY), whose files stay.
    """
    found = status_at(folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file", name)
    if not stat.S_ISDIR(found.st_mode):
        return _unlink(folder, name)
    top = _open_to_change(folder, name)
    try:
        freed = _Removal(top, mount_of(folder)).empty_all()
    finally:
        os.close(top)
    _remove_folder(folder, name)
    return freed


def remove_in_run(path: Path) -> None:
    """Remove a file or folder, which may be missing, without following a link below the folder of a run.

    Raises:
        LinkError: a link is on the way.
        OSError: see `remove_at`.
    """
    with suppress(FileNotFoundError, NotADirectoryError), folder_at(path.parent) as folder:
        remove_at(folder, path.name)


class _Removal:
    """The removal of all below one folder.

    Folders that are further down are moved up to it, so that no depth needs a stack or many descriptors.
    """

    def __init__(self, top: int, mount: int) -> None:
        self._top = top
        self._mount = mount
        self._mark = os.urandom(12).hex()
        self._moved = 0
        self._require_same_mount(top, "")

    def empty_all(self) -> int:
        """Remove all in the folder; return the bytes freed."""
        freed = 0
        while True:
            waiting, more = self._empty(self._top)
            freed += more
            if not waiting:
                return freed
            freed += sum(self._remove_inner(inner) for inner in waiting)

    def _remove_inner(self, name: str) -> int:
        try:
            inner = _open_to_change(self._top, name)
        except FileNotFoundError:
            return 0
        try:
            self._require_same_mount(inner, name)
            _, freed = self._empty(inner)
        finally:
            os.close(inner)
        _remove_folder(self._top, name)
        return freed

    def _empty(self, folder: int) -> tuple[list[str], int]:
        """Remove the files of a folder and move its folders up; return the names of folders, and bytes freed."""
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        folders = []
        freed = 0
        for name, is_folder in found:
            if not is_folder:
                freed += _unlink(folder, name)
            elif folder == self._top:
                folders.append(name)
            else:
                # Moving a folder writes to it; a mount point can't be moved.
                with suppress(FileNotFoundError):
                    os.close(_open_to_change(folder, name))
                    self._moved += 1
                    aside = f"removed-{self._mark}-{self._moved}"
                    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=self._top)
        return folders, freed

    def _require_same_mount(self, folder: int, name: str) -> None:
        if mount_of(folder) != self._mount:
            raise OSError(errno.EBUSY, "another file system is mounted there", name)


def _unlink(folder: int, name: str) -> int:
    found = status_at(folder, name)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0


def _remove_folder(parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)


def _open_to_change(folder: int, name: str) -> int:
    """Open a folder to remove its entries, whatever its permissions are."""
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        _permit(folder, name)
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
    if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with suppress(PermissionError):
            os.fchmod(descriptor, stat.S_IRWXU)
    return descriptor


def _permit(folder: int, name: str) -> None:
    if hasattr(os, "O_PATH"):
        descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            # A descriptor of this kind takes no fchmod(2).
            Path(f"/proc/self/fd/{descriptor}").chmod(stat.S_IRWXU)
        finally:
            os.close(descriptor)


def _step(folder: int, name: str, *, create: bool) -> int:
    for _ in range(_TRIES):
        try:
            return os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            found = status_at(folder, name)
            _refuse_link(found, name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                kind = FileNotFoundError if found is None else NotADirectoryError
                raise kind(error.errno, "no folder", name) from error
            continue  # it was something else a moment ago
        # Another process may create or remove it at the same time.
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    raise FileNotFoundError(errno.ENOENT, "removed again and again", name)


def _refuse_link(found: os.stat_result | None, name: str) -> None:
    if found is not None and stat.S_ISLNK(found.st_mode):
        raise _link(name)


def _link(name: str) -> LinkError:
    return LinkError(f"'{_shown(name)}' is a symbolic link, which is not followed")


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()[:120]
