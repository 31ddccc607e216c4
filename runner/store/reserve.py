"""A little space on the disk that is given up when the disk is full, so that how a run ended can still be written."""

import os
from contextlib import suppress

from runner.base.files import write_atomically
from runner.settings import Home

SIZE = 1 << 20
"""Bytes of the reserve: several times what the last words of a large record take in SQLite's log."""


def keep_reserve(home: Home) -> None:
    """Make the reserve where there is none; on a full disk a later command does."""
    path = home.reserve
    with suppress(OSError):
        if not path.is_file() or path.stat().st_size != SIZE:
            # Random, so that a file system that compresses sets as much aside.
            write_atomically(path, os.urandom(SIZE))


def release_reserve(home: Home) -> bool:
    """Give up the reserve; say whether there was one."""
    try:
        home.reserve.unlink()
    except OSError:
        return False
    return True
