"""The disk of a store: what its errors mean, network file systems, synced files, and a reserve of space."""

import os
import resource
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

from runner.base.files import write_atomically
from runner.errors import DamagedStoreError, FullDiskError, StoreError
from runner.process import capture
from runner.settings import Home

_REPAIR = "`proj verify --repair` saves the readable data; the damaged file is kept."

_EXPLANATIONS = {
    "disk is full": ("The disk is full", "Free some space; the data recorded so far is safe."),
    "database is locked": ("Another process has locked the store for too long", "Check for a stuck process."),
    "readonly database": (
        "The store can't be written to",
        "Set PROJ_HOME to a folder that you can write to; commands that only read work here.",
    ),
    "unable to open": (
        "The store can't be opened",
        "Check the permissions of the file and its folder, and how many files may be open: `ulimit -n`.",
    ),
    "disk I/O error": ("The disk reported an error", "Check the disk, then run the command again."),
    "not a file": (
        "The path of the store is not a file",
        "Move it away; `proj verify --repair` then rebuilds the database from the files of the runs.",
    ),
    "file size limit": (
        "The store may not grow: the limit of file sizes is reached",
        "Raise the limit: `ulimit -f unlimited`.",
    ),
    "malformed": ("The store is damaged", _REPAIR),
    "Could not decode": ("The store is damaged", _REPAIR),
    "not a database": ("This file is not a store of proj, or its header is damaged", _REPAIR),
}

_KINDS: dict[str, type[StoreError]] = {
    "disk is full": FullDiskError,
    "malformed": DamagedStoreError,
    "Could not decode": DamagedStoreError,
    "not a database": DamagedStoreError,
}

_LITTLE = 64 << 10
"""Free bytes below which SQLite's "disk I/O error" means that its shared-memory file does not fit on the disk."""

NETWORK = ("nfs", "cifs", "smb", "afpfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "fuse.sshfs")
"""Prefixes of the types of network file systems. https://www.sqlite.org/wal.html, "Overview"."""


_MOUNTS = Path("/proc/self/mountinfo")

MOST_SYNCED = 200
"""Maximum number of files that are synced one by one; for more, the whole file system is synced."""

RESERVE_SIZE = 1 << 20
"""Size of the reserve in bytes: several times the log space that SQLite needs to close a large record."""


def explain_error(error: sqlite3.Error, path: Path) -> StoreError | None:
    """Return the user's error for an error of the store's file or disk, or None for an error that indicates a bug."""
    text = str(error)
    if "disk I/O error" in text and free_bytes(path.parent) < _LITTLE:
        text = "disk is full"
    elif "disk I/O error" in text and _is_limited(path):
        text = "file size limit"
    elif os.path.lexists(path) and not path.is_file():
        text = "not a file"
    elif "unable to open" in text and path.exists() and not os.access(path.parent, os.W_OK):
        text = "readonly database"
    for words, (message, hint) in _EXPLANATIONS.items():
        if words in text:
            advice = _or_backup(path) if hint == _REPAIR else hint
            return _KINDS.get(words, StoreError)(message, context=f"{path}: {error}", hint=advice)
    return None


def _is_limited(path: Path) -> bool:
    """Return whether a file of the store is so close to the limit of file sizes that it can't grow."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    files = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
    return any(file.stat().st_size + _LITTLE > limit for file in files if file.exists())


def free_bytes(folder: Path) -> int:
    """Return the free bytes for users at a folder; if unknown, a very large number."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return sys.maxsize
    return found.f_bavail * found.f_frsize


def _or_backup(path: Path) -> str:
    """Return the repair hint for a damaged store, with the newest backup if there is one."""
    backups = sorted(path.parent.glob(f"{path.name}.*.backup"))
    return f"{_REPAIR} A backup of an earlier version is {backups[-1].name}." if backups else _REPAIR


def is_on_network(folder: Path) -> bool:
    """Return whether an existing folder is on a network file system; False if unknown."""
    mounts = _linux_mounts() if _MOUNTS.exists() else _listed_mounts()
    path = folder.resolve()
    matches = [(len(mount.parts), kind) for mount, kind in mounts if path == mount or mount in path.parents]
    return bool(matches) and max(matches)[1].startswith(NETWORK)


def _linux_mounts() -> list[tuple[Path, str]]:
    """Return mount point and type of each mount, from proc(5), "/proc/[pid]/mountinfo"."""
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    mounts = []
    for line in text.splitlines():
        mount_point, _, rest = line.partition(" - ")
        words = mount_point.split()
        if len(words) > 4 and rest:  # noqa: PLR2004
            mounts.append((Path(words[4].replace("\\040", " ")), rest.split()[0]))
    return mounts


def _listed_mounts() -> list[tuple[Path, str]]:
    """Return mount point and type of each mount, from the output of `mount` on BSD: ``what on /place (type, …)``."""
    mounts = []
    for line in capture(["mount"], timeout=10).text.splitlines():
        _, _, rest = line.partition(" on ")
        mount_point, _, kind = rest.rpartition(" (")
        if mount_point:
            mounts.append((Path(mount_point), kind.split(",")[0].rstrip(")")))
    return mounts


def sync_log(log: Path) -> bool:
    """Sync the log of a run and its folder to the disk; return whether the log exists.

    Raises:
        OSError: the disk reports an error.
    """
    if not log.is_file() or log.is_symlink():
        return False
    if log.stat().st_size:
        sync([os.fsencode(log)], log.parent)
    return True


def sync(paths: list[bytes], folder: Path) -> None:
    """Sync files and their folders to the disk.

    Raises:
        OSError: the disk reports an error.
    """
    if len(paths) > MOST_SYNCED and sys.platform == "linux":
        _sync_file_system(folder)
        return
    for path in [*paths, *sorted({os.path.dirname(path) for path in paths})]:  # noqa: PTH120  bytes have no Path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # the file was removed or is not readable
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_file_system(folder: Path) -> None:
    """Sync the file system of a folder; see syncfs(2)."""
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def keep_reserve(home: Home) -> None:
    """Create the reserve if it is missing; on a full disk, a later command creates it."""
    path = home.reserve
    with suppress(OSError):
        if not path.is_file() or path.stat().st_size != RESERVE_SIZE:
            # Random data, so that a compressing file system reserves the full size.
            write_atomically(path, os.urandom(RESERVE_SIZE))


def release_reserve(home: Home) -> bool:
    """Release the reserve; return whether it existed."""
    try:
        home.reserve.unlink()
    except OSError:
        return False
    return True
