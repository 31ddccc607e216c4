"""SHA-256 of the files of environments: each inode is read once, however many environments share it.

Installers put packages into environments as hard links to the files of their cache. A new link changes the time at
which an inode changed (ctime), as an edit does. So the checksums of shared files are kept by inode, size, mtime and
ctime, in one file per package for the whole home. Two cases need no reading:

- The inode has exactly the times that it had when it was read.
- It had them just before our own installer ran, and then differs by a link more and by ctime, not by size or mtime.
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
_MOST_THREADS = 8
_KEPT_EDITIONS = 4
"""How many times the files of a package are kept: those of wheels for other Pythons, and of caches emptied since."""


class Source(NamedTuple):
    """An unpacked package in the cache of an installer; ``package`` is what its checksums are kept under."""

    package: str
    folder: Path


class KnownFile(Struct, frozen=True, array_like=True, gc=False):
    """A file by inode as it was when it was read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int
    sha256: str

    @classmethod
    def of(cls, status: os.stat_result, sha256: str) -> "KnownFile":
        """Return what is known of a file after it was read; ``status`` is from before."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink, sha256)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Say whether a file has the very times that it had when it was read."""
        return (self.ctime_ns, self.mtime_ns, self.size) == (status.st_ctime_ns, status.st_mtime_ns, status.st_size)

    def is_only_linked(self, status: os.stat_result) -> bool:
        """Say whether a file differs in nothing but in links that it got."""
        return status.st_nlink > self.links and (self.mtime_ns, self.size) == (status.st_mtime_ns, status.st_size)


class _Page(Struct, frozen=True):
    """The known files of a package on one file system."""

    device: int
    files: tuple[KnownFile, ...]


class SharedFiles:
    """The checksums of files that environments of a home share.

    Args:
        folder: where they are kept.
        device: the file system (``st_dev``) of the environments; what is known of another one does not count.
    """

    def __init__(self, folder: Path, device: int) -> None:
        self._folder, self._device = folder, device
        self._linkable: dict[int, KnownFile] = {}
        self._known: dict[int, KnownFile] = {}

    def expect(self, sources: Iterable[Source]) -> None:
        """Look at the packages in a cache before an installer makes links to them, and note what is as it was read.

        Nothing is read: a cache may have wheels of the same version that are for others.
        """
        with suppress(OSError):  # what was not looked at is read when it is installed
            for source in sources:
                known = self._load(source.package)
                for status in _states(source.folder) if known else ():
                    file = known.get(status.st_ino)
                    if file and file.is_unchanged(status):
                        self._linkable[status.st_ino] = KnownFile.of(status, file.sha256)

    def get_or_compute(self, packages: Iterable[str]) -> None:
        """Load what is known of the files of packages."""
        for package in packages:
            self._known |= self._load(package)

    def find(self, status: os.stat_result) -> str | None:
        """Return the checksum of a file that was read before and did not change since, None where it must be read."""
        file = self._linkable.get(status.st_ino)
        if file and (file.is_unchanged(status) or file.is_only_linked(status)):
            return file.sha256
        file = self._known.get(status.st_ino)
        return file.sha256 if file and file.is_unchanged(status) else None

    def learn(self, package: str, files: Sequence[KnownFile]) -> None:
        """Keep what was read of the files of a package, with what others found out meanwhile."""
        if not files:
            return
        known = self._load(package)
        for file in files:
            before = known.get(file.inode)
            if before is None or before.ctime_ns <= file.ctime_ns:
                known[file.inode] = file
        newest = sorted(known.values(), key=lambda file: -file.ctime_ns)[: _KEPT_EDITIONS * len(files)]
        page = _Page(device=self._device, files=tuple(newest))
        with suppress(OSError):  # on a full disk the files are read again the next time
            write_checksummed(self._page(package), msgspec.msgpack.encode(page))

    def _load(self, package: str) -> dict[int, KnownFile]:
        try:
            page = msgspec.msgpack.decode(read_checksummed(self._page(package)), type=_Page)
        except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
            return {}
        return {file.inode: file for file in page.files} if page.device == self._device else {}

    def _page(self, package: str) -> Path:
        return self._folder / package.replace("/", "_")


def read_checksums(files: Sequence[tuple[str, os.stat_result]]) -> list[str]:
    """Return the SHA-256 of files in hex, of links that of their target; empty for what can't be read.

    Reading and hashing let other threads work, so several do it.
    """
    found = [""] * len(files)
    starts = iter(range(0, len(files), _BATCH))  # the next one is taken by one thread alone

    def work() -> None:
        for start in starts:
            for number in range(start, min(start + _BATCH, len(files))):
                found[number] = _checksum(*files[number])

    # The standard library's pools of threads take longer to import than most environments to check.
    count = min(-(-len(files) // _BATCH), os.cpu_count() or 1, _MOST_THREADS)
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


def _states(folder: Path) -> Iterator[os.stat_result]:
    """Yield the states of the regular files below a folder; what goes away meanwhile is left out."""
    pending = [str(folder)]
    while pending:
        with suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False)
