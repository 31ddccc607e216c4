"""Getting code back: the exact tree of a run, how it differed from its commit, and the commit that it became later."""

import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from runner.errors import SnapshotError
from runner.files import copy_file, sha256_of
from runner.settings import Home
from runner.source.gitcommand import Place, git
from runner.source.layout import Table, lay_tree
from runner.source.opening import Source
from runner.source.snapshot import LargeFile
from runner.source.vault import read_run, vault_place

_DIFF = ("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


class Restored(Struct, frozen=True, kw_only=True):
    """What came back: the tree, and the large files that were found nowhere."""

    tree: str
    missing: tuple[str, ...] = ()


def checkout(
    run_id: str, destination: Path, home: Home, large: Iterable[LargeFile] = (), origin: Path | None = None
) -> Restored:
    """Write the exact tree of a run into a folder that is new or empty.

    Large files are looked for at their paths below ``origin``, the project's top, and taken if they are the same still.

    Raises:
        SnapshotError: the folder is not empty, or the vault keeps no code of the run.
    """
    kept = read_run(home, run_id)
    target = destination.absolute()
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise SnapshotError(f"{destination} is not an empty folder", hint="Name one that does not exist yet.")
    lay_tree(home, target, kept.tree, Table())
    missing = tuple(one.path for one in large if not _bring(one, target, origin))
    return Restored(tree=kept.tree, missing=missing)


def _bring(one: LargeFile, target: Path, origin: Path | None) -> bool:
    if origin is None:
        return False
    found = origin / one.path
    try:
        if found.stat().st_size != one.size or sha256_of(found) != one.sha256:
            return False
        (target / one.path).parent.mkdir(parents=True, exist_ok=True)
        copy_file(found, target / one.path)
    except OSError:
        return False
    return True


def difference(run_id: str, home: Home) -> bytes:
    """Return what a dirty run's code differed in from its commit, as ``git apply`` takes it; empty for a clean run.

    Raises:
        SnapshotError: the vault keeps no code of the run.
    """
    kept = read_run(home, run_id)
    return git(vault_place(home), *_DIFF, kept.base, kept.tree) if kept.base else b""


def find_tree_in_history(tree: str, source: Source) -> str | None:
    """Return the oldest commit that has exactly this tree, of all that any ref of the source's repository reaches."""
    return find_trees_in_history((tree,), source).get(tree)


def find_trees_in_history(trees: Iterable[str], source: Source) -> dict[str, str]:
    """Return, for those of the trees that are some commit's, the oldest such commit."""
    wanted = frozenset(trees)
    if source.repository is None or not wanted:
        return {}
    place = Place(git_dir=source.repository)
    lines = git(place, "rev-list", "--all", "--format=%T %H").decode().splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("commit "))
    return {tree: commit for tree, commit in pairs if tree in wanted}
