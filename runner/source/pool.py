"""Keeps the folders of ended runs, so that the next run of the project reuses unchanged files."""

import os
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from runner.base.files import open_regular, remove_tree, write_at
from runner.base.mounts import mount_points
from runner.base.safe_paths import LinkError, folder_at, remove_at, remove_in_run, status_at
from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.checkout import Table

_POOL = ".pool"
_TABLE = "table"
_POOLED = 2
"""Folders of ended runs that are kept in the pool for one project."""


def store_folder(root: Path, key: str, table: Table) -> None:
    """Move the folder of an ended run to the pool, and remove the oldest folders of the project from it.

    Raises:
        InvalidValueError: the folder was replaced by a link.
        OSError: its table can't be written.
    """
    with folder_at(root.parent, (root.name,)) as folder:
        with suppress(FileNotFoundError):
            remove_at(folder, _TABLE)
        write_at(folder, _TABLE, msgspec.msgpack.encode(table))
    with folder_at(root.parent) as above:
        found = status_at(above, _POOL)
        if found is not None and stat.S_ISLNK(found.st_mode):  # a run made it
            remove_at(above, _POOL)
    with folder_at(root.parent, (_POOL,), create=True) as pool, suppress(OSError):
        os.rename(root, f"{key}-{table.tree[:12]}-{os.urandom(4).hex()}", dst_dir_fd=pool)
    for old in _pooled(root.parent / _POOL, key)[_POOLED:]:
        _discard(old)


def require_own(root: Path, folder: Path) -> None:
    """Refuse a folder of a run that the run replaced by a link: the files behind the link are the user's.

    Raises:
        SnapshotError: a part of the path from the root to the folder is a link, not a folder, or missing.
    """
    try:
        with folder_at(root.parent, (root.name, *folder.relative_to(root).parts)):
            return
    except LinkError as error:
        raise SnapshotError("The run replaced its folder by a link", context=error.message) from error
    except OSError as error:
        raise SnapshotError("The run removed or replaced its folder", context=str(error)) from error


def reuse_folder(home: Home, key: str, tree: str, root: Path, top: Path) -> Table:
    """Reuse the pooled folder of an ended run of the same project, and return its table."""
    if root.exists():
        raise SnapshotError(f"The folder of this run already exists: {root}")
    root.parent.mkdir(parents=True, exist_ok=True)
    pooled = _pooled(home.folders / _POOL, key)
    for folder in sorted(pooled, key=lambda one: tree[:12] not in one.name):
        if mount_points(folder):
            continue
        try:
            folder.rename(root)  # only one of several concurrent runs succeeds
        except OSError:
            continue
        try:
            return _take_over(root, top)
        except (OSError, SnapshotError, msgspec.DecodeError):
            break
    if os.path.lexists(root):
        remove_tree(root)
    root.mkdir(mode=0o700)
    return Table()


def _take_over(root: Path, top: Path) -> Table:
    """Return the table of a folder from the pool; remove what is not below its top.

    Raises:
        SnapshotError: the run replaced a part of the folder.
        OSError: the folder has no table, or can't be changed.
    """
    require_own(root, top)
    with open_regular(root / _TABLE) as file:
        table = msgspec.msgpack.decode(file.readall(), type=Table)
    kept = [root, *(folder for folder in top.parents if folder.is_relative_to(root) and folder != root), top]
    for folder, inner in pairwise(sorted(kept)):
        for name in (one for one in folder.iterdir() if one != inner):
            remove_in_run(name)
    return table


def _pooled(pool: Path, key: str) -> list[Path]:
    """Return the pooled folders of a project, the most recently used first."""

    def ended(folder: Path) -> float:
        try:
            return (folder / "table").stat().st_mtime
        except OSError:
            return 0.0

    names = os.listdir(pool) if pool.is_dir() else []  # noqa: PTH208  # a glob would compile an expression
    return sorted((pool / name for name in names if name.startswith(f"{key}-")), key=ended, reverse=True)


def _discard(folder: Path) -> None:
    doomed = folder.with_name(f".doomed-{os.urandom(8).hex()}")
    with suppress(OSError):
        folder.rename(doomed)  # so that no run reuses a partly removed folder
        remove_tree(doomed)


def empty_pool(home: Home) -> None:
    """Remove all pooled folders."""
    remove_tree(home.folders / _POOL)
