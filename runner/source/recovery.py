"""What is done about a damaged store of snapshots during a run: damage is taken out, and the user is told."""

from collections.abc import Iterable

from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.damage import mark_incomplete, take_out_damage
from runner.source.transfer import is_whole

_NAMED = 3


def take_out(home: Home, trees: Iterable[str], report: Report) -> bool:
    """Take damaged objects out and tell the user which; say whether there are any, or some that the trees lack.

    Raises:
        SnapshotError: git can't be run.
    """
    report(Event(kind=EventKind.STEP, message="Checking the store of snapshots"))
    found = take_out_damage(home)
    lacking = not all(is_whole(home, tree) for tree in trees)
    if lacking:
        mark_incomplete(home)
    if not (found or lacking):
        return False
    named = "; ".join(f"{one.path} {one.problem}" for one in found[:_NAMED]) or "some objects are missing"
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    report(
        Event(
            kind=EventKind.WARNING,
            message=f"The store of snapshots was damaged ({named}{more}); what this run needs is frozen again",
            hint="`proj verify` says which earlier runs are concerned.",
        )
    )
    return True
