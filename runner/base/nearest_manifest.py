"""Finds the manifest that a folder belongs to: its own, or the nearest one above."""

import os
from pathlib import Path

_NAME = "mlproject"


def folder_with_manifest(folder: Path) -> Path | None:
    """Return the folder itself or the nearest one above it that has a manifest, at most the top of the git work tree.

    The result is relative to the current folder if the folder is.
    """
    whole = folder.absolute()
    for above in (whole, *whole.parents):
        if _has_manifest(above):
            found = above if folder.is_absolute() else Path(os.path.relpath(above))
            return folder if above == whole else found
        if os.path.lexists(above / ".git"):
            break
    return None


def _has_manifest(folder: Path) -> bool:
    try:
        return any(name.lower() == _NAME for name in os.listdir(folder))  # noqa: PTH208  # names only
    except OSError:  # folders above may be closed to the user
        return False
