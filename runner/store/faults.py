"""Converts errors of the store's file and disk into errors for the user."""

import os
import resource
import sqlite3
import sys
from pathlib import Path

from runner.errors import DamagedStoreError, NoRoomError, StoreError

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
    "file size limit": (
        "The store may not grow: the limit of file sizes is reached",
        "Raise the limit: `ulimit -f unlimited`.",
    ),
    "malformed": ("The store is damaged", _REPAIR),
    "Could not decode": ("The store is damaged", _REPAIR),
    "not a database": ("This file is not a store of proj, or its header is damaged", _REPAIR),
}

_KINDS: dict[str, type[StoreError]] = {
    "disk is full": NoRoomError,
    "malformed": DamagedStoreError,
    "Could not decode": DamagedStoreError,
    "not a database": DamagedStoreError,
}

_LITTLE = 64 << 10
"""Free bytes below which SQLite's "disk I/O error" means that its shared-memory file does not fit on the disk."""


def explain_error(error: sqlite3.Error, path: Path) -> StoreError | None:
    """Return the user's error for an error of the store's file or disk, or None for an error that indicates a bug."""
    text = str(error)
    if "disk I/O error" in text and free_bytes(path.parent) < _LITTLE:
        text = "disk is full"
    elif "disk I/O error" in text and _is_limited(path):
        text = "file size limit"
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
