"""Freeing what no run needs any more."""

import os
import time
from pathlib import Path

from runner.base.files import locked, remove_tree
from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.freezing import state_of
from runner.source.gitcommand import git
from runner.source.run_folder import empty_pool
from runner.source.snapshot_store import open_snapshot_store, remove_left_locks, snapshot_store_git_directory

_FRESH = 3600
"""Seconds for which nothing is freed, since a run that is being frozen may count on it."""
_SYNC = (("core.fsync", "all"),)
"""What git writes anew is on disk before what it stands for is removed."""
_ZIPS = 7 * 24 * 3600
"""Seconds for which a zip that was fetched or unpacked stays, and a damaged pack that was taken out."""


def collect_garbage(home: Home) -> None:
    """Free the trees that no run holds, the folders that wait for another run, and zips of last week.

    Raises:
        SnapshotError: git can't tidy the vault up.
    """
    vault = open_snapshot_store(home)
    place = snapshot_store_git_directory(home)
    with locked(home.root / "vault.lock"):
        remove_left_locks(home)
        _remove_old(vault / "incoming", _FRESH)
        _remove_old(vault / "damaged", _ZIPS)
        try:
            _hold_indexes(home)
            git(place, "pack-refs", "--all", settings=_SYNC)
            words = ("-q", "-a", "-d", "-l", f"--unpack-unreachable={_FRESH}.seconds.ago")
            git(place, "repack", *words, settings=_SYNC)
            git(place, "prune", f"--expire={_FRESH}.seconds.ago")
        except GitError as error:
            raise SnapshotError(
                "The room of the code that no run needs could not be freed: the store of snapshots is damaged",
                context=error.context,
                hint="`proj verify --repair` says which runs are concerned; `proj rm` lets go of those too.",
            ) from error
    _remove_old(home.mirrors / "zips", _ZIPS)
    empty_pool(home)


def _hold_indexes(home: Home) -> None:
    """Hold what the kept indexes count on by refs of their own; an index of a project that is gone goes too."""
    for folder in sorted(home.indexes.iterdir()) if home.indexes.is_dir() else ():
        if not folder.is_dir():
            continue
        ref = f"refs/projects/{folder.name}"
        with locked(folder / "lock"):
            tree = _tree_of(folder)
            if tree:
                git(snapshot_store_git_directory(home), "update-ref", ref, tree)
                continue
            for name in ("index", "state", "digests", "root"):
                (folder / name).unlink(missing_ok=True)
            git(snapshot_store_git_directory(home), "update-ref", "-d", ref)


def _tree_of(folder: Path) -> str | None:
    """Return the tree that an index stands for, or None where the index is of no more use."""
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
