"""Cache of parsed project files, keyed by tree id."""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.urls import has_credentials

T = TypeVar("T")

_MOST = 4000
"""Maximum number of cached files; beyond it, the older half is removed."""


class ParseCache(Struct, frozen=True):
    """Cached values of one frozen tree; ``code`` identifies the tree and the folder in it."""

    folder: Path
    code: str

    def get_or_compute(self, kind: type[T], subject: str, read: Callable[[], T]) -> T:
        """Return the cached value for the same ``words``; without one, call ``read`` and cache its value.

        ``read`` must depend only on the tree and the words. Its errors are not cached.
        """
        key = f"{self.code}\0{kind.__name__}\0{subject}\0{_edition()}"
        path = self.folder / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        try:
            return msgspec.msgpack.decode(read_checksummed(path), type=kind)
        except (OSError, DamagedFileError, msgspec.MsgspecError):
            value = read()
        if has_credentials(msgspec.json.encode(value).decode()):  # these are read again and never stored
            return value
        with suppress(OSError):  # a full disk is reported by code that must write
            write_checksummed(path, msgspec.msgpack.encode(value))
            self._forget()
        return value

    def _forget(self) -> None:
        """Remove the older half of the cache if it is too large."""
        names = os.listdir(self.folder)  # noqa: PTH208  # two objects less for each of thousands
        if len(names) > _MOST:
            kept = sorted((path.stat().st_mtime_ns, path) for path in map(self.folder.joinpath, names) if path.exists())
            for _, path in kept[: len(kept) // 2]:
                path.unlink(missing_ok=True)


@cache
def _edition() -> str:
    """Return a text that changes with proj's own code and with the platform."""
    stamps = [sys.platform, os.uname().machine]
    for folder, _, names in os.walk(Path(__file__).parents[1]):
        modules = [(name, os.stat(f"{folder}/{name}")) for name in names if name.endswith(".py")]  # noqa: PTH116  # speed
        stamps += [f"{folder}/{name} {found.st_mtime_ns} {found.st_size}" for name, found in modules]
    return "\n".join(sorted(stamps))
