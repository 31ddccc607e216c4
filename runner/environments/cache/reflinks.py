"""Detects whether a file system can clone files (copy on write)."""

import sys
from pathlib import Path

FICLONE = 0x40049409
"""The ioctl that clones a file: https://man7.org/linux/man-pages/man2/ioctl_ficlonerange.2.html"""


def can_reflink(folder: Path) -> bool:
    """Return whether files in a folder can be cloned."""
    if sys.platform == "darwin":
        return True
    if not sys.platform.startswith("linux"):
        return False
    import fcntl
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as source, tempfile.TemporaryFile(dir=folder) as target:
        source.write(b"proj" * 1024)
        source.flush()
        try:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        except OSError:
            return False
    return True
