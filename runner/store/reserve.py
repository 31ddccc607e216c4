"""Reserves disk space that is released on a full disk, so that the end of a run can be recorded."""

import os
from contextlib import suppress

from runner.base.files import write_atomically
from runner.settings import Home

SIZE = 1 << 20
"""Size of the reserve in bytes: several times the log space that SQLite needs to close a large record."""


def keep_reserve(home: Home) -> None:
    """Create the reserve if it is missing; on a full disk, a later command creates it."""
    path = home.reserve
    with suppress(OSError):
        if not path.is_file() or path.stat().st_size != SIZE:
            # Random data, so that a compressing file system reserves the full size.
            write_atomically(path, os.urandom(SIZE))


def release_reserve(home: Home) -> bool:
    """Release the reserve; return whether it existed."""
    try:
        home.reserve.unlink()
    except OSError:
        return False
    return True
