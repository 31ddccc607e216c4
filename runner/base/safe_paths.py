"""Opens files below a root folder component by component, without following links.

A process that swaps a folder for a link while we are on the way changes nothing: each step starts at a folder that is
open, and a link is an error. A hard link is a file like any other: whoever made it could read the file anyway, and
files are replaced, never written in place, so that its other names keep their content.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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

    Returns the bytes of files that only this name kept.

    Raises:
        FileNotFoundError: there is no such entry.
    """
    found = status_at(folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file", name)
    if not stat.S_ISDIR(found.st_mode):
        return _unlink(folder, name)
    freed = 0
    top = _open_to_change(folder, name)
    try:
        # Deeper folders are moved up, so that no depth needs a stack or many descriptors.
        while True:
            waiting, more = _empty(top, top)
            freed += more
            if not waiting:
                break
            freed += sum(_remove_inner(top, inner) for inner in waiting)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)
    return freed


def _remove_inner(top: int, name: str) -> int:
    inner = _open_to_change(top, name)
    try:
        _, freed = _empty(inner, top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)
    return freed


def _unlink(folder: int, name: str) -> int:
    found = status_at(folder, name)
    os.unlink(name, dir_fd=folder)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0


def _empty(folder: int, top: int) -> tuple[list[str], int]:
    """Remove the files of a folder and move its folders up to the top; return their names there, and bytes freed."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    folders = []
    freed = 0
    for name, is_folder in found:
        if not is_folder:
            freed += _unlink(folder, name)
        elif folder == top:
            folders.append(name)
        else:
            # Moving a folder writes to it.
            os.close(_open_to_change(folder, name))
            os.rename(name, f"removed-{secrets.token_hex(12)}", src_dir_fd=folder, dst_dir_fd=top)
    return folders, freed


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
    shown = name.encode("utf-8", "backslashreplace").decode()[:120]
    return LinkError(f"'{shown}' is a symbolic link, which is not followed")
