"""Manages partially written files, and removes abandoned ones.

They are in one folder below the folder of all runs, so that files of killed processes are found without searching the
artifacts of every run. A file is locked while it is being written.
"""

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runner.base.files import PARTIAL, share_blocks
from runner.base.locks import try_lock
from runner.base.safe_paths import LinkError, folder_at, new_file, remove_at, split_root, status_at
from runner.settings import Home

FOLDER = ".proj-partial"
"""The name of the folder, beside those of runs."""

_ANY_RUN = "0" * 32
_ANY_MODEL = f"m-{_ANY_RUN}"
"""Each kind has one folder for partially written files."""
_ABANDONED_FILE = 3600.0
"""Seconds after which an unlocked file is removed; locks may not work on a network file system."""
_ABANDONED_UPLOAD = 24 * 3600.0
"""Seconds without a new part after which a multipart upload is removed, because no process owns it."""


def staging_folder(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the staging folder for a root, as its own root and names below it."""
    anchor, own = split_root(root)
    return (anchor, (FOLDER,)) if own else (root, ())


class PartialFile:
    """A new file without its final name. End with `move` or `discard`."""

    def __init__(self, root: Path, target: int) -> None:
        self._name = f"{PARTIAL}{secrets.token_hex(8)}"
        self._location = staging_folder(root)
        with folder_at(*self._location, create=True) as folder:
            if os.fstat(folder).st_dev == os.fstat(target).st_dev:
                self._descriptor = new_file(folder, self._name)
                self._folder = -1
            else:  # a file can't be moved from one file system to another
                self._descriptor = new_file(target, self._name)
                self._folder = os.dup(target)
        with suppress(OSError):  # not every file system has locks
            try_lock(self._descriptor)
        self._is_open = True

    @property
    def descriptor(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes."""
        written = os.write(self._descriptor, piece)
        while written < len(piece):
            written += os.write(self._descriptor, memoryview(piece)[written:])

    def clone(self, source: BinaryIO) -> bool:
        """Share the blocks of a file (copy on write); return False if the file system can't."""
        return share_blocks(source.fileno(), self._descriptor)

    def move(self, target: int, name: str, modified_ns: int | None) -> None:
        """Move the file to its final name in a folder, replacing an existing file."""
        if modified_ns is not None:
            os.utime(self._descriptor, ns=(modified_ns, modified_ns))
        with self._own_folder() as folder:
            os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=target)
        self._close()

    def discard(self) -> None:
        """Remove the file unless it was moved."""
        if self._is_open:
            with suppress(FileNotFoundError), self._own_folder() as folder:
                os.unlink(self._name, dir_fd=folder)
            self._close()

    @contextmanager
    def _own_folder(self) -> Iterator[int]:
        if self._folder >= 0:
            yield self._folder
        else:
            with folder_at(*self._location) as folder:
                yield folder

    def _close(self) -> None:
        self._is_open = False
        os.close(self._descriptor)
        if self._folder >= 0:
            os.close(self._folder)


def collect_everywhere(home: Home) -> int:
    """Remove abandoned partial files and uploads of all runs and models; return their number."""
    return sum(collect_abandoned(home.run(one) / "artifacts") for one in (_ANY_RUN, f"models/{_ANY_MODEL}"))


def collect_abandoned(root: Path, now: float | None = None) -> int:
    """Remove partial files of killed processes and abandoned uploads for a root; return their number.

    Locked files and uploads with a part received within a day stay. A folder that can't be changed is skipped.
    """
    moment = time.time() if now is None else now
    _remove_link(*staging_folder(root))
    with suppress(OSError, LinkError), folder_at(*staging_folder(root)) as folder:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PARTIAL)]
        return sum(_collect(folder, name, moment) for name in names)
    return 0


def _remove_link(anchor: Path, names: tuple[str, ...]) -> None:
    """Remove a link that a run put in the place of the folder of partial files."""
    with suppress(OSError, LinkError), folder_at(anchor) as above:
        found = status_at(above, FOLDER) if names else None
        if found is not None and stat.S_ISLNK(found.st_mode):
            remove_at(above, FOLDER)


def _collect(folder: int, name: str, now: float) -> bool:
    found = status_at(folder, name)
    if found is None:
        return False
    is_upload = stat.S_ISDIR(found.st_mode)
    age = now - found.st_mtime
    if age < (_ABANDONED_UPLOAD if is_upload else _ABANDONED_FILE):
        return False
    if not is_upload and _is_locked(folder, name):
        return False
    with suppress(FileNotFoundError):
        remove_at(folder, name)
        return True
    return False


def _is_locked(folder: int, name: str) -> bool:
    """Return whether a file is being written."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
