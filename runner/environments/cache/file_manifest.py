"""Records the files of a prefix with their checksums and detects changes."""

import hashlib
import os
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.environments.cache.checksums import KnownFile, SharedFiles, lost_permission, read_checksums
from runner.environments.cache.installed import CACHES, Distribution, InstalledPackage, describe, installed_packages
from runner.errors import EnvironmentSetupError

IMPORTABLE = (".py", ".so", ".pyd", ".pth", ".pyc", ".egg-link", "METADATA", "RECORD")
PROGRAMS = ("bin/", "Scripts/")


class FileChecksum(Struct, frozen=True, array_like=True, gc=False):
    """A file when its checksum was verified; ``package`` is its index in `FileManifest.packages`, or -1."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    package: int
    sha256: str
    mode: int = 0
    """The permissions; 0 in manifests of earlier versions."""


class Measure(Struct, frozen=True):
    """A summary of a prefix by stat(2): number of files, bytes, time of the last change in nanoseconds.

    ``shape`` depends on the paths of all folders and on the time of the last change of each file. It differs also when
    a folder is renamed, and when a file changes while the clock is behind; 0 in markers of earlier versions.
    """

    count: int
    size: int
    newest_ns: int
    shape: int = 0


class FileManifest(Struct, frozen=True, kw_only=True):
    """All files and distributions of a prefix.

    ``wrong`` are distributions whose files differ from their RECORD, or lost permissions that they had in earlier
    environments. ``packages`` are the names under which checksums of shared files are stored.
    """

    files: tuple[FileChecksum, ...]
    distributions: tuple[Distribution, ...]
    wrong: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    measure: Measure = Measure(0, 0, 0)

    @property
    def digest(self) -> str:
        """The digest of the installed distributions."""
        known = sorted((item.name.lower(), item.version, item.digest) for item in self.distributions)
        return hashlib.sha256(msgspec.json.encode(known)).hexdigest()


class Damage(Struct, frozen=True):
    """The result of a check: files that changed or are missing, and importable files that were added."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.added)

    def describe(self) -> str:
        """Return the first paths, for a message."""
        paths = self.changed + self.added
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""  # noqa: PLR2004
        return ", ".join(paths[:3]) + more


def measure(root: Path) -> Measure:
    """Summarise a prefix by stat(2) alone; this is the quick check before every use.

    No program can set the time at which an inode changed, so every edit, rename and new file is detected. Compiled
    caches are ignored.
    """
    # Written for speed: this runs before every use, over tens of thousands of files.
    count = size = newest = shape = 0
    start = len(str(root)) + 1
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        times = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != CACHES:
                        pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                count += 1
                size += status.st_size
                times += status.st_ctime_ns
                if status.st_ctime_ns > newest:  # noqa: PLR1730
                    newest = status.st_ctime_ns
        shape += _folder_shape(folder[start:], times)
    return Measure(count, size, newest, shape & _SHAPE)


_SHAPE = (1 << 62) - 1
"""The bits of a shape that are kept."""


def _folder_shape(folder: str, times: int) -> int:
    """Return the part of a folder in the shape of a prefix; ``times`` is the sum of the times of its files."""
    return zlib.crc32(os.fsencode(folder)) * times + times


def compare(root: Path, manifest: FileManifest, shared: SharedFiles | None = None) -> tuple[Damage, FileManifest]:
    """Compare a prefix with its file manifest by content; this is the full check after the quick one finds a change.

    Only files whose times changed are read. Of those in ``shared`` only files are read that no process has read since.
    Returns the differences and the updated manifest.
    """
    recorded = {entry.path: entry for entry in manifest.files}
    found = list(_walk(root))
    touched = [
        (entry, status) for path, status in found if (entry := recorded.get(path)) and not _is_same(entry, status)
    ]
    if touched and shared:
        shared.load(manifest.packages)
    known = {entry.path: shared.find(status) if shared else None for entry, status in touched}
    unread = [(entry, status) for entry, status in touched if known[entry.path] is None and entry.size == _size(status)]
    contents = read_checksums([(f"{root}/{entry.path}", status) for entry, status in unread])
    known |= {entry.path: sha256 for (entry, _), sha256 in zip(unread, contents, strict=True)}
    fresh = recorded | {
        entry.path: _checksum(entry.path, status, entry.package, entry.sha256)
        for entry, status in touched
        if known[entry.path] == entry.sha256
    }
    changed = {
        entry.path
        for entry, status in touched
        if known[entry.path] != entry.sha256 or lost_permission(entry.mode, status.st_mode)
    }
    if shared:
        _store_shared(
            shared, manifest.packages, [fresh[entry.path] for entry, _ in unread if entry.path not in changed]
        )
    there = {path for path, _ in found}
    added = [path for path, status in found if path not in recorded and _is_effective(path, status)]
    damage = Damage(changed=tuple(sorted([*changed, *(recorded.keys() - there)])), added=tuple(sorted(added)))
    files = tuple(entry for path, entry in fresh.items() if path in there)
    return damage, msgspec.structs.replace(manifest, files=files, measure=_measure_of(found))


def build_manifest(root: Path, shared: SharedFiles | None = None) -> FileManifest:
    """Build the file manifest of a new prefix: the checksum of every file, compared with the RECORDs.

    ``shared`` is given when files are hard links that other prefixes have too. Files whose checksum it knows are not
    read. Shared files are made read-only.

    Raises:
        EnvironmentSetupError: a file can't be read.
    """
    packages = installed_packages(root)
    owners = {path: number for number, package in enumerate(packages) for path in package.recorded}
    states, known, unread = {}, {}, []
    for path, found in _walk(root):
        if not _is_text(path):
            raise EnvironmentSetupError(
                f"the environment has a file whose name is not UTF-8: {path!a}", context=str(root)
            )
        status = _protect(f"{root}/{path}", found) if shared and found.st_nlink > 1 else found
        states[path] = status
        sha256 = shared.find(status) if shared else None
        if sha256 is None:
            unread.append((path, status))
        else:
            known[path] = sha256
    contents = read_checksums([(f"{root}/{path}", status) for path, status in unread])
    known |= {path: sha256 for (path, _), sha256 in zip(unread, contents, strict=True)}
    entries = {path: _checksum(path, status, owners.get(path, -1), known[path]) for path, status in states.items()}
    unreadable = next((path for path, sha256 in known.items() if not sha256), None)
    if unreadable is not None:
        raise EnvironmentSetupError(f"{unreadable} of a new environment can't be read", context=str(root))
    names = tuple(package.name for package in packages)
    damaged = _without_permission(shared, packages, states) if shared else frozenset()
    if shared:
        _store_shared(shared, names, (entry for entry in entries.values() if entry.package not in damaged))
    recorded = {path: digest for package in packages for path, digest in package.recorded.items()}
    wrong = {packages[owners[path]].title for path, digest in recorded.items() if known.get(path) != digest}
    wrong |= {packages[number].title for number in damaged}
    return FileManifest(
        files=tuple(entries.values()),
        distributions=tuple(describe(package, root, known) for package in packages),
        wrong=tuple(sorted(wrong)),
        packages=names,
        measure=_measure_of(states.items()),
    )


def _is_same(entry: FileChecksum, status: os.stat_result) -> bool:
    return (
        entry.ctime_ns == status.st_ctime_ns
        and entry.mtime_ns == status.st_mtime_ns
        and entry.inode == status.st_ino
        and entry.size == _size(status)
    )


def _checksum(path: str, status: os.stat_result, package: int, sha256: str) -> FileChecksum:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    mode = stat.S_IMODE(status.st_mode)
    return FileChecksum(path, _size(status), *times, status.st_ino, status.st_nlink, package, sha256, mode)


def _is_effective(path: str, status: os.stat_result) -> bool:
    """Return whether an added file changes what a run imports or starts: a module, a program, or any link."""
    return path.endswith(IMPORTABLE) or path.startswith(PROGRAMS) or stat.S_ISLNK(status.st_mode)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_permission(
    shared: SharedFiles, packages: Sequence[InstalledPackage], states: Mapping[str, os.stat_result]
) -> frozenset[int]:
    """Return the numbers of packages whose shared files lost a permission, in the installer's cache as well."""
    return frozenset(
        number
        for number, package in enumerate(packages)
        if shared.lost_permission(package.name, (states[path] for path in package.recorded if path in states))
    )


def _store_shared(shared: SharedFiles, packages: Sequence[str], entries: Iterable[FileChecksum]) -> None:
    """Store the checksums of files with several hard links, by package."""
    found: dict[int, list[KnownFile]] = {}
    for entry in entries:
        if entry.links > 1 and entry.package >= 0:
            known = KnownFile(
                entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns, entry.links, entry.sha256, entry.mode
            )
            found.setdefault(entry.package, []).append(known)
    for number, files in found.items():
        shared.store(packages[number], files)


def _protect(path: str, status: os.stat_result) -> os.stat_result:
    """Make a file with several hard links read-only; return its new status."""
    if not status.st_mode & 0o222 or not stat.S_ISREG(status.st_mode):
        return status
    os.chmod(path, stat.S_IMODE(status.st_mode) & ~0o222)  # noqa: PTH101
    return os.lstat(path)


def _measure_of(files: Collection[tuple[str, os.stat_result]]) -> Measure:
    """Return the result of `measure` from the paths and statuses of a finished walk."""
    newest = max((status.st_ctime_ns for _, status in files), default=0)
    times: dict[str, int] = {}
    for path, status in files:
        folder = path.rpartition("/")[0]
        times[folder] = times.get(folder, 0) + status.st_ctime_ns
    shape = sum(_folder_shape(folder, total) for folder, total in times.items())
    return Measure(len(files), sum(status.st_size for _, status in files), newest, shape & _SHAPE)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    pending = [("", str(root))]
    while pending:
        before, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != CACHES:
                        pending.append((f"{before}{entry.name}/", entry.path))
                else:
                    yield f"{before}{entry.name}", entry.stat(follow_symlinks=False)


def _size(status: os.stat_result) -> int:
    return 0 if stat.S_ISLNK(status.st_mode) else status.st_size
