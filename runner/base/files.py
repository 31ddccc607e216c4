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

from runner.base import progress
from runner.base.safe_paths import folder_at, new_file, remove_at

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


def write_at(folder: int, name: str, data: bytes) -> None:
    """Write a file of an open folder atomically; a link of this name is replaced, not followed.

    Raises:
        OSError: a folder has this name, or the file can't be written.
    """
    partial = f"{PARTIAL}{os.urandom(8).hex()}"
    try:
        with os.fdopen(new_file(folder, partial), "wb") as file:
            file.write(data)
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


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


def clone_at(source: int, folder: int, name: str) -> bool:
    """Make a new file in an open folder that shares the blocks of an open file; return False where that can't be.

    Raises:
        OSError: there is an entry of this name, or the file can't be made.
    """
    if sys.platform == "darwin":
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        return bool(library.fclonefileat(source, folder, os.fsencode(name), 0) == 0)
    target = new_file(folder, name)
    try:
        cloned = share_blocks(source, target)
    finally:
        os.close(target)
    if not cloned:
        os.unlink(name, dir_fd=folder)
    return cloned


def copy_at(source: FileIO, folder: int, name: str) -> None:
    """Copy the rest of an open file to a new file in an open folder; a copy that fails is removed.

    Raises:
        OSError: there is an entry of this name, the source can't be read, or the disk is full.
    """
    with FileIO(new_file(folder, name), "wb") as copy:
        try:
            while piece := source.read(_CHUNK):
                left = memoryview(piece)
                while left:
                    left = left[copy.write(left) :]
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise


def can_clone(folder: Path) -> bool:
    """Return whether files in a folder can be cloned."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as name, folder_at(Path(name)) as descriptor:
        source = Path(name) / "source"
        source.write_bytes(b"proj" * 1024)
        with open_regular(source) as file:
            return clone_at(file.fileno(), descriptor, "copy")


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
    chunk = file.read(_CHUNK)
    if len(chunk) == _CHUNK:  # small files are read too fast to be worth a call
        progress.begin(os.fstat(file.fileno()).st_size)
    while chunk:
        digest.update(chunk)
        progress.advance(len(chunk))
        chunk = file.read(_CHUNK)
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
    """Remove a file or a folder with its content, also if it is read-only; links are not followed.

    Raises:
        OSError: something can't be removed; the files of another file system that is mounted below stay.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with suppress(FileNotFoundError):
            remove_at(parent, path.name)
    finally:
        os.close(parent)
