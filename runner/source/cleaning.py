"""Frees disk space of snapshots, run folders and archives that no run needs."""

import os
import time
from pathlib import Path

from runner.base.files import remove_tree
from runner.base.locks import locked
from runner.base.partial_files import remove_partial_files
from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.freezing import state_of
from runner.source.gitcommand import git
from runner.source.pool import empty_pool
from runner.source.snapshot_store import open_snapshot_store, remove_left_locks, store_git_directory

_FRESH = 3600
"""Seconds for which new objects stay, because a run that starts at the same time may need them."""
_SYNC = (("core.fsync", "all"),)
"""git syncs rewritten objects to disk before it removes the old ones."""
_ZIPS = 7 * 24 * 3600
"""Seconds for which downloaded and unpacked zips stay, and damaged packs that were removed."""


def collect_garbage(home: Home) -> None:
    """Remove trees that no run references, pooled run folders, zips older than a week, and partial files of a day.

    Raises:
        SnapshotError: git can't collect garbage in the snapshot store.
    """
    remove_partial_files(home.root)
    store = open_snapshot_store(home)
    git_directory = store_git_directory(home)
    with locked(home.root / "vault.lock"):
        remove_left_locks(home)
        _remove_old(store / "incoming", _FRESH)
        _remove_old(store / "damaged", _ZIPS)
        try:
            _hold_indexes(home)
            git(git_directory, "pack-refs", "--all", settings=_SYNC)
            arguments = ("-q", "-a", "-d", "-l", f"--unpack-unreachable={_FRESH}.seconds.ago")
            git(git_directory, "repack", *arguments, settings=_SYNC)
            git(git_directory, "prune", f"--expire={_FRESH}.seconds.ago")
        except GitError as error:
            raise SnapshotError(
                "The space of unreferenced code could not be freed: the snapshot store is damaged",
                context=error.context,
                hint="`proj verify --repair` lists the affected runs; `proj rm --permanently` removes them.",
            ) from error
    _remove_old(home.mirrors / "zips", _ZIPS)
    empty_pool(home)


def _hold_indexes(home: Home) -> None:
    """Keep the objects that project indexes need by refs; remove the index of a project that no longer exists."""
    for folder in sorted(home.indexes.iterdir()) if home.indexes.is_dir() else ():
        if not folder.is_dir():
            continue
        ref = f"refs/projects/{folder.name}"
        with locked(folder / "lock"):
            tree = _tree_of(folder)
            if tree:
                git(store_git_directory(home), "update-ref", ref, tree)
                continue
            for name in ("index", "state", "digests", "root"):
                (folder / name).unlink(missing_ok=True)
            git(store_git_directory(home), "update-ref", "-d", ref)


def _tree_of(folder: Path) -> str | None:
    """Return the tree of an index, or None if the index is no longer usable."""
    try:
        root = Path(os.fsdecode((folder / "root").read_bytes()))
    except OSError:
        return None
    state = state_of(folder)
    return state.tree if state and root.is_dir() else None


def _remove_old(folder: Path, age: float) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            old = time.time() - path.lstat().st_mtime > age
        except FileNotFoundError:
            continue
        if old:
            remove_tree(path)
