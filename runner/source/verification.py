"""The check of all snapshots: every object is what its id says, and every run has all that its code consists of."""

from collections.abc import Container, Iterable, Iterator
from itertools import islice

from msgspec import Struct

from runner.base.findings import Finding, Progress
from runner.settings import Home
from runner.source.damage import Damage, find_damage, take_out_damage
from runner.source.snapshot_store import absent_objects, forget_snapshot, read_objects, run_commits
from runner.source.tree import read_tree

_TREES = 1000
"""Trees that are read by one process of git."""
_FOLDER, _SUBMODULE = b"40000", b"160000"
_OBJECT_ID = 40


class _Tree(Struct, frozen=True, array_like=True):
    """What a folder of a snapshot leads to: folders by name, and the first file whose content is not there."""

    folders: tuple[tuple[str, str], ...]
    lacking: tuple[str, str] | None


def verify_snapshots(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Check the content of every object and, for every run, that all of its code is there.

    With ``repair`` damaged objects are taken out, so that the next run of their project freezes them again, and refs
    that lead nowhere are removed. One process of git for each pack and for each thousand folders; memory grows with the
    number of different folders only.

    Raises:
        SnapshotError: git can't be run.
    """
    if not home.vault.is_dir():
        return
    damages = take_out_damage(home, progress) if repair else list(find_damage(home, progress))
    for damage in damages:
        told = "taken out; the next run of its project freezes it again" if repair else None
        yield Finding(part="snapshot", name=damage.path, problem=damage.problem, repair=told)
    found = list(_check_runs(home, damages, repair=repair))
    yield from found
    if repair and not (damages or found):
        (home.vault / "incomplete").unlink(missing_ok=True)


def orphan_snapshots(home: Home, run_ids: Container[str]) -> Iterator[Finding]:
    """Return the snapshots of runs that are not among ``run_ids``; `vault.forget_snapshot` lets go of one."""
    for run_id in run_commits(home):
        if run_id not in run_ids:
            yield Finding(part="orphan", name=run_id, problem="code is kept for this run, and there is no such run")


def _check_runs(home: Home, damages: list[Damage], *, repair: bool) -> Iterator[Finding]:
    gone = frozenset(identity for damage in damages for identity in damage.identities)
    runs = run_commits(home)
    trees = _trees_of(home, runs.values(), gone)
    known = _read_all(home, (tree for some in trees.values() for tree in some), gone)
    memo: dict[str, tuple[str, str] | None] = {}
    for run_id, commit in runs.items():
        if commit not in trees:
            if repair:
                forget_snapshot(run_id, home)
            told = "its ref was removed" if repair else None
            yield Finding(part="snapshot", name=run_id, problem="the code of this run is not there", repair=told)
            continue
        lacking = next(filter(None, (_first_lacking(tree, known, memo) for tree in trees[commit])), None)
        if lacking:
            path, identity = lacking
            problem = f"the code of this run is damaged: {path or 'its folder'} ({identity}) is missing"
            yield Finding(part="snapshot", name=run_id, problem=problem)


def _trees_of(home: Home, commits: Iterable[str], gone: frozenset[str]) -> dict[str, list[str]]:
    """Return by commit its tree and the one that it is compared with; commits that can't be read are left out.

    In the place of the latter stands the commit that should hold it, where that is not there.
    """
    heads = _read_commits(home, commits, gone)
    bases = _read_commits(home, (parent for _, parent in heads.values() if parent), gone)
    return {
        commit: [tree, *((bases[parent][0] if parent in bases else parent,) if parent else ())]
        for commit, (tree, parent) in heads.items()
    }


def _read_commits(home: Home, commits: Iterable[str], gone: frozenset[str]) -> dict[str, tuple[str, str | None]]:
    """Return tree and parent of commits."""
    found: dict[str, tuple[str, str | None]] = {}
    rest = iter(dict.fromkeys(name for name in commits if len(name) == _OBJECT_ID and name not in gone))
    while chunk := list(islice(rest, _TREES)):
        for name, one in read_objects(home, chunk).items():
            lines = one.data.split(b"\n\n", 1)[0].decode("ascii", "replace").splitlines()
            words = dict(line.split(" ", 1) for line in lines if " " in line)
            if one.kind == "commit" and "tree" in words:
                found[name] = (words["tree"], words.get("parent"))
    return found


def _read_all(home: Home, trees: Iterable[str], gone: frozenset[str]) -> dict[str, _Tree]:
    """Read trees and all folders below them, level by level; what can't be read is left out."""
    known: dict[str, _Tree] = {}
    asked: set[str] = set()
    waiting = iter(dict.fromkeys(trees))
    while level := [tree for tree in waiting if tree not in asked]:
        asked.update(level)
        below: dict[str, None] = {}
        rest = iter(level)
        while chunk := list(islice(rest, _TREES)):
            for identity, tree in _read_chunk(home, chunk, gone).items():
                known[identity] = tree
                below.update(dict.fromkeys(child for _, child in tree.folders))
        waiting = iter(below)
    return known


def _read_chunk(home: Home, chunk: list[str], gone: frozenset[str]) -> dict[str, _Tree]:
    found = read_objects(home, [identity for identity in chunk if identity not in gone])
    entries = {one.identity: read_tree(one.data) for one in found.values() if one.kind == "tree"}
    files = {entry.identity for tree in entries.values() for entry in tree.values() if entry.mode != _FOLDER}
    absent = gone.union(absent_objects(home, files - gone)) if files else gone
    trees = {}
    for identity, tree in entries.items():
        folders = tuple((name, entry.identity) for name, entry in tree.items() if entry.mode == _FOLDER)
        others = ((name, one.identity) for name, one in tree.items() if one.mode not in (_FOLDER, _SUBMODULE))
        trees[identity] = _Tree(folders, next((pair for pair in others if pair[1] in absent), None))
    return trees


def _first_lacking(
    tree: str, known: dict[str, _Tree], memo: dict[str, tuple[str, str] | None]
) -> tuple[str, str] | None:
    """Return path and id of the first thing below a tree that is not there."""
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
