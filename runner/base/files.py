"""File operations: atomic writes, block-sharing copies, digests, removal of folders."""

import errno
import fcntl
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

_FICLONE = 0x40049409
"""The request of ioctl_ficlone(2)."""

PARTIAL = ".proj-partial-"
"""Prefix of the names of files that are being written."""

_CHUNK = 1 << 20

_MOST_DIGESTS = 50_000
"""Digests in a stored cache; so many take 20 ms to read."""

_TICK = 20_000_000
"""Nanoseconds within which two writes may give a file the same timestamp."""


class Stamp(Struct, frozen=True, array_like=True, gc=False):
    """File status that shows whether a file was changed: mode, size, times in ns, inode."""

    mode: int
    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """Return the stamp of a stat result."""
        return cls(found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def partial_path(path: Path) -> Path:
    """Return a unique path beside a file, for its content while it is written.

    git ignores refs whose names begin with a dot. `remove_partial_files` removes what a killed process left.
    """
    return path.with_name(f"{PARTIAL}{os.urandom(8).hex()}")


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield the path of a partial file, which replaces ``path`` after the block, or is removed when the block fails."""
    partial = partial or partial_path(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_atomically(path: Path, data: bytes, *, durable: bool = False, mode: int | None = None) -> None:
    """Write a file atomically: readers see the old or the new content, never a part.

    With ``durable``, the content and the name are synced to disk. Without ``mode``, the umask decides who can read it.
    """
    is_new = durable and not path.parent.is_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new, new.open("xb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        sync_folder(path.parent)
    if is_new:
        sync_folder(path.parent.parent)


def sync_file(path: Path) -> None:
    """Sync the content of a file to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk, if the file system supports that."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def share_blocks(source: int, target: int) -> bool:
    """Make an open file share the blocks of another one (copy on write); return False if the file system can't."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def clone_file(source: Path, target: Path) -> bool:
    """Copy a file by sharing its blocks (copy on write); return False if the file system can't.

    Raises:
        OSError: the source can't be read or the target can't be made.
    """
    if sys.platform == "darwin":
        return _clone_on_macos(source, target)
    with source.open("rb") as origin, target.open("xb") as copy:
        cloned = share_blocks(origin.fileno(), copy.fileno())
        if cloned:
            os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(origin.fileno()).st_mode))
    if not cloned:
        target.unlink()
    return cloned


def _clone_on_macos(source: Path, target: Path) -> bool:
    import ctypes
    import ctypes.util

    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    return bool(library.clonefile(os.fsencode(source), os.fsencode(target), 0) == 0)


def can_clone(folder: Path) -> bool:
    """Return whether files in a folder can be cloned."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as name:
        source = Path(name) / "source"
        source.write_bytes(b"proj" * 1024)
        return clone_file(source, source.with_name("copy"))


def copy_file(source: Path, target: Path) -> None:
    """Copy content and permissions, sharing blocks where the file system can."""
    if not clone_file(source, target):
        import shutil

        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def new_folder(parent: Path, prefix: str = "") -> Path:
    """Create a folder with a unique name and return it; the caller removes it."""
    folder = parent / f"{prefix}{os.urandom(8).hex()}"
    folder.mkdir(mode=0o700, parents=True)
    return folder


def open_regular(path: Path, *, follow: bool = False) -> FileIO:
    """Open a regular file for reading; a pipe, which would block, a device or a link is refused.

    Raises:
        OSError: the file can't be opened, or is not a regular file; a link counts as the file only with ``follow``.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(os.open(path, flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex; anything but a regular file is refused without being read."""
    with open_regular(path, follow=True) as file:
        return sha256_from(file)


def sha256_from(file: BinaryIO | FileIO) -> str:
    """Return the SHA-256 of the rest of an open file in hex."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order of name; linked folders are entered once."""
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(parent)  # noqa: PTH116  one object less for each of thousands
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (path for name in sorted(files) if (path := Path(parent, name)).is_file())


class DigestCache:
    """A cache of digests by device, inode and stamp, stored in a file; a file that is moved keeps its digest.

    ``compute`` returns the digest of a file, by default its SHA-256. The cache is read when it is first used.
    """

    def __init__(self, path: Path, compute: Callable[[Path], str] | None = None) -> None:
        self._path = path
        self._compute = compute
        self._entries: dict[tuple[int, int], tuple[Stamp, str]] | None = None
        self._new = False

    @property
    def _known(self) -> dict[tuple[int, int], tuple[Stamp, str]]:
        if self._entries is None:
            self._entries = {}
            with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                listed = msgspec.msgpack.decode(self._path.read_bytes(), type=list[tuple[int, Stamp, str]])
                self._entries = {(device, stamp.inode): (stamp, digest) for device, stamp, digest in listed}
        return self._entries

    def knows(self, path: Path) -> bool:
        """Return whether the digest of a file is cached."""
        try:
            status = path.stat()
        except OSError:
            return False
        known = self._known.get((status.st_dev, status.st_ino))
        return known is not None and known[0] == Stamp.of(status)

    def digest(self, path: Path) -> str:
        """Return the digest of a file's content, reading it only if its stamp has changed.

        Raises:
            OSError: the file can't be read.
        """
        status = path.stat()
        key, before = (status.st_dev, status.st_ino), Stamp.of(status)
        known = self._known.pop(key, None)
        if known and known[0] == before:
            self._known[key] = known  # at the end: the entries that were used last are kept
            return known[1]
        digest = (self._compute or sha256_of)(path)
        if Stamp.of(path.stat()) == before and time.time_ns() - before.changed > _TICK:
            self._known[key] = (before, digest)
            self._new = True
        return digest

    def save(self) -> None:
        """Store new digests with the `_MOST_DIGESTS` that were used last."""
        if self._new:
            latest = list(self._known.items())[-_MOST_DIGESTS:]
            listed = [(device, stamp, digest) for (device, _), (stamp, digest) in latest]
            write_atomically(self._path, msgspec.msgpack.encode(listed))
            self._new = False


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with its content, also if it is read-only; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    import shutil

    def open_up(_function: object, name: str, _error: object) -> None:
        place = Path(name)
        for folder in (place.parent, place):
            with suppress(OSError):
                if folder.is_dir() and not folder.is_symlink():
                    folder.chmod(0o700)
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)

    try:
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=open_up)
        else:
            shutil.rmtree(path, onerror=open_up)
    except RecursionError:
        _remove_deep(path)


def _remove_deep(top: Path) -> None:
    """Remove a folder of any depth: each inner folder is first moved to ``top``, so that no path gets long."""
    waiting = [top]
    count, mark = 0, os.urandom(4).hex()
    while waiting:
        folder = waiting.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            found = list(entries)
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108
                continue
            count += 1
            aside = top / f"{_ASIDE}{mark}-{count}"
            os.rename(entry.path, aside)  # noqa: PTH104
            waiting.append(aside)
        if folder != top:
            folder.rmdir()
    top.rmdir()


_ASIDE = ".proj-removed-"
"""The start of the names of folders that are being removed."""
