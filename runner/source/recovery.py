"""Recovers from a damaged snapshot store during a run: removes damaged objects and warns the user."""

from collections.abc import Iterable

from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.damage import mark_incomplete, remove_damage
from runner.source.transfer import has_complete_tree

_NAMED = 3


def recover_store(home: Home, trees: Iterable[str], report: Report) -> bool:
    """Remove damaged objects and warn the user; return whether objects were damaged, or missing from the trees.

    Raises:
        SnapshotError: git can't be run.
    """
    report(Event(kind=EventKind.STEP, message="Checking the snapshot store"))
    found = remove_damage(home)
    lacking = not all(has_complete_tree(home, tree) for tree in trees)
    if lacking:
        mark_incomplete(home)
    if not (found or lacking):
        return False
    named = "; ".join(f"{one.path} {one.problem}" for one in found[:_NAMED]) or "some objects are missing"
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    report(
        Event(
            kind=EventKind.WARNING,
            message=f"The snapshot store was damaged ({named}{more}); proj stores the files of this run again",
            hint="`proj verify` lists the affected earlier runs.",
        )
    )
    return True
