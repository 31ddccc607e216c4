"""Removes files and folders of proj's home that a killed process left half-written."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runner.base.files import PARTIAL, remove_tree

AGE = 24 * 3600
"""Seconds for which partial files stay: longer than the build of an image takes."""
_NAME = re.compile(
    rf"{re.escape(PARTIAL)}[0-9a-f]{{16}}|(building-|\.new-)[0-9a-f]{{16}}|.+\.db\..+\.partial(-journal)?"
)
_DEPTH = 3
"""Levels of folders below the home that are searched."""
_FOREIGN = frozenset(("runs", "folders", "environments", "objects", "uv", "conda"))
"""Folders that are not searched: files of runs, packages and git objects have their own rules."""


def remove_partial_files(root: Path, now: float | None = None) -> int:
    """Remove partial files and folders of a home that are older than a day; return their number."""
    before = (time.time() if now is None else now) - AGE
    count = 0
    found = [*_partial_files(root, _DEPTH), *_partial_files(root / "vault.git" / "objects" / "pack", 0)]
    found += _partial_files(root / "vault.git" / "refs" / "runs", 0)
    for path in found:
        with suppress(OSError):  # another command removed it, or it belongs to another user
            if path.lstat().st_mtime < before:
                remove_tree(path)
                count += 1
    return count


def _partial_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        if _NAME.fullmatch(entry.name):
            yield Path(entry.path)
        elif depth and entry.name not in _FOREIGN and entry.is_dir(follow_symlinks=False):
            yield from _partial_files(Path(entry.path), depth - 1)
