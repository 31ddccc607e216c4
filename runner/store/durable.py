"""Files that are on the disk, and not only in memory, before the store says that they are there."""

import os
import sys
from pathlib import Path

MOST_SYNCED = 200
"""Files that are brought to the disk one by one; for more, the file system is asked to write everything."""


def sync_log(log: Path) -> bool:
    """Bring the log of a run to the disk, with the folder that names it; say whether there is one.

    Raises:
        OSError: the disk refuses.
    """
    if not log.is_file():
        return False
    if log.stat().st_size:
        sync([os.fsencode(log)], log.parent)
    return True


def sync(paths: list[bytes], folder: Path) -> None:
    """Bring files to the disk, with the names of them that are in their folders.

    Raises:
        OSError: the disk refuses.
    """
    if len(paths) > MOST_SYNCED and sys.platform == "linux":
        _sync_file_system(folder)
        return
    for path in [*paths, *sorted({os.path.dirname(path) for path in paths})]:  # noqa: PTH120  bytes have no Path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # it went away, or can't be read
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_file_system(folder: Path) -> None:
    """Write everything to the disk that the file system of a folder still holds in memory; see syncfs(2)."""
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
