"""Finds mounted file systems, so that nothing behind a mount point is moved or removed."""

import os
import re
from contextlib import suppress
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
"""The mounts of this process; the fifth field of a line is the mount point (proc(5))."""
_POINT = 4
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mount_points(top: Path) -> tuple[bytes, ...]:
    """Return the sorted paths of mount points below a folder, relative to it; empty where the system has no list."""
    start = os.fsencode(os.path.realpath(top)).rstrip(b"/") + b"/"
    try:
        lines = _TABLE.read_bytes().splitlines()
    except OSError:
        return ()
    fields = (line.split(b" ") for line in lines)
    paths = (_ESCAPED.sub(_unescape, some[_POINT]) for some in fields if len(some) > _POINT)
    return tuple(sorted({path[len(start) :] for path in paths if path.startswith(start)}))


def mount_of(descriptor: int) -> int:
    """Return a number for the mount of an open file: a bind mount has another one than the folder around it.

    Where the system does not tell, it is the number of the file system.
    """
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines():
            if line.startswith(b"mnt_id:"):
                return int(line.partition(b":")[2])
    return os.fstat(descriptor).st_dev


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 0xFF])
