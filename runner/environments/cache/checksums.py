"""Stores SHA-256 checksums of files that environments share: each inode is read once.

Installers put packages into environments as hard links to the files of their cache. A new link changes the time at
which an inode changed (ctime), as an edit does. So the checksums of shared files are stored by inode, size, mtime and
ctime, in one file per package for the whole home. A file is not read again in two cases:

- Its inode has exactly the times that it had when it was read.
- It had them just before proj's installer ran, and then differs only by an added link and by ctime.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed

_BLOCK = 1 << 20
_BATCH = 64
_MAX_THREADS = 8
_STORED_EDITIONS = 4
"""Sets of files stored per package: wheels for other Pythons, and wheels of caches that were emptied since."""


class CachedPackage(NamedTuple):
    """An unpacked package in the cache of an installer; its checksums are stored under the name ``package``."""

    package: str
    folder: Path


class KnownFile(Struct, frozen=True, array_like=True, gc=False):
    """The status and checksum of an inode when it was read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int
    sha256: str
    mode: int = 0
    """The permissions; 0 in tables of earlier versions."""

    @classmethod
    def of(cls, status: os.stat_result, sha256: str) -> "KnownFile":
        """Return the entry of a file that was read; ``status`` is from before the read."""
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return cls(status.st_ino, status.st_size, *times, status.st_nlink, sha256, stat.S_IMODE(status.st_mode))

    def lost_permission(self, status: os.stat_result) -> bool:
        """Return whether the same content can no longer be executed."""
        is_same = (self.inode, self.mtime_ns, self.size) == (status.st_ino, status.st_mtime_ns, status.st_size)
        return is_same and lost_permission(self.mode, status.st_mode)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Return whether a file has exactly the times that it had when it was read."""
        return (self.ctime_ns, self.mtime_ns, self.size) == (status.st_ctime_ns, status.st_mtime_ns, status.st_size)

    def is_only_linked(self, status: os.stat_result) -> bool:
        """Return whether a file differs only by hard links that were added."""
        return status.st_nlink > self.links and (self.mtime_ns, self.size) == (status.st_mtime_ns, status.st_size)


def lost_permission(before: int, now: int) -> bool:
    """Return whether a file can no longer be executed."""
    return bool(before & stat.S_IXUSR) and not now & stat.S_IXUSR


class _PackageChecksums(Struct, frozen=True):
    """The known files of a package on one file system."""

    device: int
    files: tuple[KnownFile, ...]


class SharedFiles:
    """The checksums of files that environments of a home share.

    Args:
        folder: the folder where they are stored.
        device: the file system (``st_dev``) of the environments; checksums of other file systems are ignored.
    """

    def __init__(self, folder: Path, device: int) -> None:
        self._folder, self._device = folder, device
        self._linkable: dict[int, KnownFile] = {}
        self._known: dict[int, KnownFile] = {}

    def note_unchanged(self, sources: Iterable[CachedPackage]) -> None:
        """Note the unchanged files of packages in a cache, before an installer links to them.

        No file is read, because a cache may have wheels of the same version that are not used.
        """
        with suppress(OSError):  # files that are not noted are read after the installation
            for source in sources:
                known = self._load(source.package)
                for status in _file_statuses(source.folder) if known else ():
                    file = known.get(status.st_ino)
                    if file and file.is_unchanged(status):
                        self._linkable[status.st_ino] = KnownFile.of(status, file.sha256)

    def load(self, packages: Iterable[str]) -> None:
        """Load the stored checksums of packages."""
        for package in packages:
            self._known |= self._load(package)

    def find(self, status: os.stat_result) -> str | None:
        """Return the checksum of a file that is unchanged since it was read, None if it must be read."""
        file = self._linkable.get(status.st_ino)
        if file and (file.is_unchanged(status) or file.is_only_linked(status)):
            return file.sha256
        file = self._known.get(status.st_ino)
        return file.sha256 if file and file.is_unchanged(status) else None

    def lost_permission(self, package: str, statuses: Iterable[os.stat_result]) -> bool:
        """Return whether a file of a package was stored as a program and can no longer be executed."""
        known = self._load(package)
        return any(file.lost_permission(status) for status in statuses if (file := known.get(status.st_ino)))

    def store(self, package: str, files: Sequence[KnownFile]) -> None:
        """Store the checksums of a package's files, merged with those that other processes stored meanwhile."""
        if not files:
            return
        known = self._load(package)
        for file in files:
            before = known.get(file.inode)
            if before is None or before.ctime_ns <= file.ctime_ns:
                known[file.inode] = file
        newest = sorted(known.values(), key=lambda file: -file.ctime_ns)[: _STORED_EDITIONS * len(files)]
        stored = _PackageChecksums(device=self._device, files=tuple(newest))
        with suppress(OSError):  # on a full disk the files are read again the next time
            write_checksummed(self._path(package), msgspec.msgpack.encode(stored))

    def _load(self, package: str) -> dict[int, KnownFile]:
        try:
            stored = msgspec.msgpack.decode(read_checksummed(self._path(package)), type=_PackageChecksums)
        except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
            return {}
        return {file.inode: file for file in stored.files} if stored.device == self._device else {}

    def _path(self, package: str) -> Path:
        return self._folder / package.replace("/", "_")


def read_checksums(files: Sequence[tuple[str, os.stat_result]]) -> list[str]:
    """Return the SHA-256 of files in hex, of links that of their target; an empty string for unreadable files.

    Several threads read, because reading and hashing release the interpreter lock.
    """
    found = [""] * len(files)
    starts = iter(range(0, len(files), _BATCH))  # each start is used by one thread

    def work() -> None:
        for start in starts:
            for number in range(start, min(start + _BATCH, len(files))):
                found[number] = _checksum(*files[number])

    # Importing concurrent.futures takes longer than checking most environments.
    count = min(-(-len(files) // _BATCH), os.cpu_count() or 1, _MAX_THREADS)
    others = [threading.Thread(target=work, name="proj-checksums") for _ in range(count - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    return found


def _checksum(path: str, status: os.stat_result) -> str:
    try:
        if stat.S_ISLNK(status.st_mode):
            return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115
        if not stat.S_ISREG(status.st_mode):
            return ""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            digest = hashlib.sha256()
            while block := os.read(descriptor, _BLOCK):
                digest.update(block)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return digest.hexdigest()


def _file_statuses(folder: Path) -> Iterator[os.stat_result]:
    """Yield the statuses of the regular files below a folder, without those that are removed at the same time."""
    pending = [str(folder)]
    while pending:
        with suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False)
