"""Compares the stored objects of a run with their ids, because git reads them without doing so."""

from collections.abc import Iterable

from runner.settings import Home
from runner.source.damage import problem_of_loose
from runner.source.gitcommand import object_file
from runner.source.snapshot_store import damaged_run, object_id, read_objects
from runner.source.tree import read_tree

_FOLDER, _SUBMODULE = b"40000", b"160000"


def require_sound_objects(home: Home, run_id: str, *trees: str) -> None:
    """Compare all folders of trees, and those of their files that are loose objects, with their ids.

    Raises:
        SnapshotError: an object has other content than its id says, or a folder is missing.
    """
    known: set[str] = set()
    level = set(trees)
    while level:  # one depth at a time: a damaged folder can contain itself, so nothing is listed below it before
        known |= level
        below = [entry for tree in _folders(home, run_id, level) for entry in read_tree(tree).values()]
        level = {entry.identity for entry in below if entry.mode == _FOLDER} - known
        files = {entry.identity for entry in below if entry.mode not in (_FOLDER, _SUBMODULE)} - known
        _require_sound(home, run_id, files)
        known |= files


def _folders(home: Home, run_id: str, identities: Iterable[str]) -> list[bytes]:
    """Return the contents of tree objects."""
    wanted = sorted(identities)
    found = read_objects(home, wanted)
    for identity in wanted:
        one = found.get(identity)
        if one is None or one.kind != "tree" or object_id(one.kind, one.data) != identity:
            raise damaged_run(run_id, f"the folder {identity} is missing, or has content that does not match its id")
    return [found[identity].data for identity in wanted]


def _require_sound(home: Home, run_id: str, identities: Iterable[str]) -> None:
    for identity in identities:
        path = object_file(home.snapshot_store / "objects", identity)
        problem = problem_of_loose(path) if path.exists() else None
        if problem is not None:
            raise damaged_run(run_id, f"object {identity}: {problem}")
