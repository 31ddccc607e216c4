"""Writes files and syncs them to disk before other files refer to them."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from runner.base.files import sync_file, sync_folder, write_atomically
from runner.source.gitcommand import run_concurrently

_AT_ONCE = 8
"""Threads that call fsync: a file system combines concurrent syncs into one write."""


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file atomically and sync its content and its name to disk."""
    write_atomically(path, data, durable=True, mode=mode)


def _sync_all(pairs: list[tuple[Path, Path]]) -> None:
    for source, _ in pairs:
        sync_file(source)


def publish(files: Iterable[tuple[Path, Path]]) -> None:
    """Sync finished files, move each from its source to its target path, and sync the folders."""
    pairs = list(files)
    shares = [pairs[number::_AT_ONCE] for number in range(min(_AT_ONCE, len(pairs)))]
    run_concurrently(*(partial(_sync_all, share) for share in shares))
    for source, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    folders = {target.parent for _, target in pairs}
    for folder in (*sorted(folders), *{folder.parent for folder in folders}):
        sync_folder(folder)
