"""Verifies all snapshots: every object matches its id, and the code of every run is complete."""

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from runner.base.findings import Finding, Progress
from runner.settings import Home
from runner.source.damage import Damage, find_damage, mark_incomplete, remove_damage
from runner.source.snapshot_store import absent_objects, read_objects, release_snapshot, run_commits
from runner.source.tree import read_tree

_TREES = 1000
"""Trees that one git process reads."""
_FOLDER, _SUBMODULE = b"40000", b"160000"
_OBJECT_ID = 40


class _Tree(Struct, frozen=True, array_like=True):
    """A folder of a snapshot: its folders by name, and its first file without content."""

    folders: tuple[tuple[str, str], ...]
    lacking: tuple[str, str] | None


def verify_snapshots(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Check the content of every object and the completeness of every run's code.

    With ``repair``, damaged objects are removed, so that the next run of their project stores them again, and refs
    without a commit are removed. git runs once for each pack and for each thousand folders; memory grows with the
    number of different folders only.

    Raises:
        SnapshotError: git can't be run.
    """
    if not home.snapshot_store.is_dir():
        return
    damages = remove_damage(home, progress) if repair else list(find_damage(home, progress))
    for damage in damages:
        action = "removed; the next run of its project stores it again" if repair else None
        yield Finding(part="snapshot", name=damage.path, problem=damage.problem, repair=action)
    found = list(_check_runs(home, damages, repair=repair))
    if repair and found:
        mark_incomplete(home)  # the next run of the project then checks all objects of its trees
    yield from found
    if repair and not (damages or found):
        (home.snapshot_store / "incomplete").unlink(missing_ok=True)


def _check_runs(home: Home, damages: list[Damage], *, repair: bool) -> Iterator[Finding]:
    damaged = frozenset(identity for damage in damages for identity in damage.identities)
    runs = run_commits(home)
    trees = _trees_of(home, runs.values(), damaged)
    known = _read_all(home, (tree for some in trees.values() for tree in some), damaged)
    memo: dict[str, tuple[str, str] | None] = {}
    for run_id, commit in runs.items():
        if commit not in trees:
            if repair:
                release_snapshot(run_id, home)
            action = "its ref was removed" if repair else None
            yield Finding(part="snapshot", name=run_id, problem="the code of this run is missing", repair=action)
            continue
        lacking = next(filter(None, (_first_lacking(tree, known, memo) for tree in trees[commit])), None)
        if lacking:
            path, identity = lacking
            problem = f"the code of this run is damaged: {path or 'its folder'} ({identity}) is missing"
            yield Finding(part="snapshot", name=run_id, problem=problem)


def _trees_of(home: Home, commits: Iterable[str], damaged: frozenset[str]) -> dict[str, list[str]]:
    """Return for each commit its tree and the tree that it is compared with; unreadable commits are left out.

    If the commit of the second tree is missing, its id is returned in place of the tree.
    """
    heads = _read_commits(home, commits, damaged)
    bases = _read_commits(home, (parent for _, parent in heads.values() if parent), damaged)
    return {
        commit: [tree, *((bases[parent][0] if parent in bases else parent,) if parent else ())]
        for commit, (tree, parent) in heads.items()
    }


def _read_commits(home: Home, commits: Iterable[str], damaged: frozenset[str]) -> dict[str, tuple[str, str | None]]:
    """Return tree and parent of commits."""
    found: dict[str, tuple[str, str | None]] = {}
    rest = iter(dict.fromkeys(name for name in commits if len(name) == _OBJECT_ID and name not in damaged))
    while chunk := list(islice(rest, _TREES)):
        for name, one in read_objects(home, chunk).items():
            lines = one.data.split(b"\n\n", 1)[0].decode("ascii", "replace").splitlines()
            headers = dict(line.split(" ", 1) for line in lines if " " in line)
            if one.kind == "commit" and "tree" in headers:
                found[name] = (headers["tree"], headers.get("parent"))
    return found


def _read_all(home: Home, trees: Iterable[str], damaged: frozenset[str]) -> dict[str, _Tree]:
    """Read trees and all folders below them, level by level; unreadable ones are left out."""
    known: dict[str, _Tree] = {}
    visited: set[str] = set()
    waiting = iter(dict.fromkeys(trees))
    while level := [tree for tree in waiting if tree not in visited]:
        visited.update(level)
        below: dict[str, None] = {}
        rest = iter(level)
        while chunk := list(islice(rest, _TREES)):
            for identity, tree in _read_chunk(home, chunk, damaged).items():
                known[identity] = tree
                below.update(dict.fromkeys(child for _, child in tree.folders))
        waiting = iter(below)
    return known


def _read_chunk(home: Home, chunk: list[str], damaged: frozenset[str]) -> dict[str, _Tree]:
    found = read_objects(home, [identity for identity in chunk if identity not in damaged])
    entries = {one.identity: read_tree(one.data) for one in found.values() if one.kind == "tree"}
    files = {entry.identity for tree in entries.values() for entry in tree.values() if entry.mode != _FOLDER}
    absent = damaged.union(absent_objects(home, files - damaged)) if files else damaged
    trees = {}
    for identity, tree in entries.items():
        folders = tuple((name, entry.identity) for name, entry in tree.items() if entry.mode == _FOLDER)
        others = ((name, one.identity) for name, one in tree.items() if one.mode not in (_FOLDER, _SUBMODULE))
        trees[identity] = _Tree(folders, next((pair for pair in others if pair[1] in absent), None))
    return trees


def _first_lacking(
    tree: str, known: dict[str, _Tree], memo: dict[str, tuple[str, str] | None]
) -> tuple[str, str] | None:
    """Return path and id of the first missing object below a tree."""
    if tree in memo:
        return memo[tree]
    here = known.get(tree)
    found = ("", tree) if here is None else here.lacking
    for name, child in here.folders if here and not found else ():
        below = _first_lacking(child, known, memo)
        if below:
            found = (f"{name}/{below[0]}".rstrip("/"), below[1])
            break
    memo[tree] = found
    return found
