"""What is in a prefix: each file by content, proven against the RECORD of its distribution, and checked by stat."""

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.environments.cache.checksums import KnownFile, SharedFiles, read_checksums
from runner.environments.cache.installed import CACHES, Distribution, describe, installed_packages
from runner.errors import EnvironmentSetupError

IMPORTABLE = (".py", ".so", ".pyd", ".pth", ".pyc", ".egg-link", "METADATA", "RECORD")


class FileChecksum(Struct, frozen=True, array_like=True, gc=False):
    """A file as it was when its content was proven; ``package`` is its place in `FileManifest.packages`, or -1."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    package: int
    sha256: str


class Measure(Struct, frozen=True):
    """A prefix by stat: number of files, bytes, time of the last change in nanoseconds."""

    count: int
    size: int
    newest_ns: int


class FileManifest(Struct, frozen=True, kw_only=True):
    """All files of a prefix and all distributions; ``wrong`` are distributions whose files differ from their RECORD.

    ``packages`` are the names under which checksums of shared files are kept.
    """

    files: tuple[FileChecksum, ...]
    distributions: tuple[Distribution, ...]
    wrong: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    measure: Measure = Measure(0, 0, 0)

    @property
    def digest(self) -> str:
        """The digest of what is installed."""
        known = sorted((item.name.lower(), item.version, item.digest) for item in self.distributions)
        return hashlib.sha256(msgspec.json.encode(known)).hexdigest()


class Damage(Struct, frozen=True):
    """What a check found: files that changed or are gone, and importable ones that were not there."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.added)

    def describe(self) -> str:
        """Name the first of them."""
        paths = self.changed + self.added
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""  # noqa: PLR2004
        return ", ".join(paths[:3]) + more


def measure(root: Path) -> Measure:
    """Walk a prefix by stat alone; the quick check before every use.

    No program can set the time at which an inode changed, so every edit, rename and new file shows. Compiled caches
    don't count.
    """
    # Written for speed: this runs before every use, over tens of thousands of files.
    count = size = newest = 0
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != CACHES:
                        pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                count += 1
                size += status.st_size
                if status.st_ctime_ns > newest:  # noqa: PLR1730
                    newest = status.st_ctime_ns
    return Measure(count, size, newest)


def compare(root: Path, inventory: FileManifest, shared: SharedFiles | None = None) -> tuple[Damage, FileManifest]:
    """Compare a prefix with its inventory by content; the thorough check when the quick one sees something.

    Only files are read whose times changed since, and of those that are ``shared`` only what nobody has read since.
    Returns also the inventory as it is now.
    """
    sealed = {seal.path: seal for seal in inventory.files}
    found = list(_walk(root))
    touched = [(seal, status) for path, status in found if (seal := sealed.get(path)) and not _is_same(seal, status)]
    if touched and shared:
        shared.get_or_compute(inventory.packages)
    known = {seal.path: shared.find(status) if shared else None for seal, status in touched}
    unread = [(seal, status) for seal, status in touched if known[seal.path] is None and seal.size == _size(status)]
    contents = read_checksums([(f"{root}/{seal.path}", status) for seal, status in unread])
    known |= {seal.path: sha256 for (seal, _), sha256 in zip(unread, contents, strict=True)}
    same = [(seal, status) for seal, status in touched if known[seal.path] == seal.sha256]
    fresh = sealed | {seal.path: _seal(seal.path, status, seal.package, seal.sha256) for seal, status in same}
    changed = {seal.path for seal, _ in touched if known[seal.path] != seal.sha256}
    if shared:
        _keep(shared, inventory.packages, [fresh[seal.path] for seal, _ in unread if seal.path not in changed])
    there = {path for path, _ in found}
    added = [path for path in there - sealed.keys() if path.endswith(IMPORTABLE)]
    damage = Damage(changed=tuple(sorted([*changed, *(sealed.keys() - there)])), added=tuple(sorted(added)))
    files = tuple(seal for path, seal in fresh.items() if path in there)
    return damage, msgspec.structs.replace(inventory, files=files, measure=_measure_of([status for _, status in found]))


def take(root: Path, shared: SharedFiles | None = None) -> FileManifest:
    """Make the inventory of a new prefix: the checksum of every file, and whether it is that of the RECORDs.

    ``shared`` is given when files are hard links that other prefixes have too: those of which it knows the checksum are
    not read. The right to write is taken from such files.

    Raises:
        EnvironmentSetupError: a file can't be read.
    """
    packages = installed_packages(root)
    owners = {path: number for number, package in enumerate(packages) for path in package.recorded}
    states, known, unread = {}, {}, []
    for path, found in _walk(root):
        status = _protect(f"{root}/{path}", found) if shared and found.st_nlink > 1 else found
        states[path] = status
        sha256 = shared.find(status) if shared else None
        if sha256 is None:
            unread.append((path, status))
        else:
            known[path] = sha256
    contents = read_checksums([(f"{root}/{path}", status) for path, status in unread])
    known |= {path: sha256 for (path, _), sha256 in zip(unread, contents, strict=True)}
    seals = {path: _seal(path, status, owners.get(path, -1), known[path]) for path, status in states.items()}
    unreadable = next((path for path, sha256 in known.items() if not sha256), None)
    if unreadable is not None:
        raise EnvironmentSetupError(f"{unreadable} of a new environment can't be read", context=str(root))
    names = tuple(package.name for package in packages)
    if shared:
        _keep(shared, names, seals.values())
    recorded = {path: digest for package in packages for path, digest in package.recorded.items()}
    wrong = {packages[owners[path]].title for path, digest in recorded.items() if known.get(path) != digest}
    return FileManifest(
        files=tuple(seals.values()),
        distributions=tuple(describe(package, root, known) for package in packages),
        wrong=tuple(sorted(wrong)),
        packages=names,
        measure=_measure_of(states.values()),
    )


def _is_same(seal: FileChecksum, status: os.stat_result) -> bool:
    return (
        seal.ctime_ns == status.st_ctime_ns
        and seal.mtime_ns == status.st_mtime_ns
        and seal.inode == status.st_ino
        and seal.size == _size(status)
    )


def _seal(path: str, status: os.stat_result, package: int, sha256: str) -> FileChecksum:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return FileChecksum(path, _size(status), *times, status.st_ino, status.st_nlink, package, sha256)


def _keep(shared: SharedFiles, packages: Sequence[str], seals: Iterable[FileChecksum]) -> None:
    """Keep the checksums of those files that have other names too, by package."""
    found: dict[int, list[KnownFile]] = {}
    for seal in seals:
        if seal.links > 1 and seal.package >= 0:
            known = KnownFile(seal.inode, seal.size, seal.mtime_ns, seal.ctime_ns, seal.links, seal.sha256)
            found.setdefault(seal.package, []).append(known)
    for number, files in found.items():
        shared.learn(packages[number], files)


def _protect(path: str, status: os.stat_result) -> os.stat_result:
    """Take the right to write from a file with several names; return its state then."""
    if not status.st_mode & 0o222 or not stat.S_ISREG(status.st_mode):
        return status
    os.chmod(path, stat.S_IMODE(status.st_mode) & ~0o222)  # noqa: PTH101
    return os.lstat(path)


def _measure_of(states: Collection[os.stat_result]) -> Measure:
    """Return what `measure` would, from a walk that was done."""
    newest = max((status.st_ctime_ns for status in states), default=0)
    return Measure(len(states), sum(status.st_size for status in states), newest)


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
