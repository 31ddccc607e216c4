"""Syncs files to the disk before the store records them."""

import os
import sys
from pathlib import Path

MOST_SYNCED = 200
"""Maximum number of files that are synced one by one; for more, the whole file system is synced."""


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
