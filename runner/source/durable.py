"""Files that are on disk before anything depends on them."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from runner.source.gitcommand import together

_AT_ONCE = 8
"""Threads that wait for the disk: a file system writes what several wait for in one go."""


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    sync_file(folder)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file in place as a whole; it is on disk, with its name, when this returns."""
    is_new = not path.parent.is_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"tmp_obj_{os.urandom(8).hex()}")  # a name that git clears away by itself
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    if is_new:
        sync_folder(path.parent.parent)


def _sync_all(pairs: list[tuple[Path, Path]]) -> None:
    for source, _ in pairs:
        sync_file(source)


def publish(files: Iterable[tuple[Path, Path]]) -> None:
    """Move finished files to where they are looked for, as pairs of source and target, and wait for the disk once."""
    pairs = list(files)
    shares = [pairs[number::_AT_ONCE] for number in range(min(_AT_ONCE, len(pairs)))]
    together(*(partial(_sync_all, share) for share in shares))
    for source, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    folders = {target.parent for _, target in pairs}
    for folder in (*sorted(folders), *{folder.parent for folder in folders}):
        sync_folder(folder)
