"""The checks of `proj verify`, in the order in which they build on each other."""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from runner.base.findings import Finding, Progress
from runner.environments.cache.home_check import verify_environments, verify_locks
from runner.errors import DamagedStoreError
from runner.settings import Home
from runner.source.verification import verify_snapshots
from runner.store.artifact_digests import verify_artifacts
from runner.verification.orphans import verify_orphans
from runner.verification.records import verify_records
from runner.verification.store import verify_store

_UNREADABLE = "a part of it can't be read"


class Look(Protocol):
    """Looks at one part of the home; with ``repair`` it repairs what can be repaired without losing anything."""

    def __call__(self, home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
        """Yield what is damaged; ``progress`` is called now and then."""
        ...


class Check(Struct, frozen=True):
    """One check, and what it is called on the screen."""

    title: str
    look: Look


CHECKS: tuple[Check, ...] = (
    Check("database", verify_store),
    # Runs that only have files are recorded again before the other parts are held against the database.
    Check("files without a run", verify_orphans),
    Check("runs without files", verify_records),
    Check("snapshots", verify_snapshots),
    Check("locks", verify_locks),
    Check("environments", verify_environments),
    Check("artifacts", verify_artifacts),
)


def verify_home(home: Home, *, repair: bool, begin: "BeginCheck") -> Iterator[Finding]:
    """Make all checks and yield what is damaged.

    Args:
        home: the home to look at.
        repair: whether to repair what can be repaired.
        begin: called with the title of each check, returns whom to tell how far it is.

    Raises:
        ProjError: the home can't be looked at, or belongs to a newer proj.
    """
    is_told = False
    for check in CHECKS:
        for finding in _findings(check, home, repair, begin(check.title)):
            if not (is_told and finding.problem == _UNREADABLE):
                yield finding
            is_told = is_told or finding.part == "database"


def _findings(check: Check, home: Home, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Make one check; where it needs a database that is damaged, say that and let the next check begin."""
    try:
        yield from check.look(home, repair=repair, progress=progress)
    except DamagedStoreError:
        yield Finding(part="database", name=home.database.name, problem=_UNREADABLE)


class BeginCheck(Protocol):
    """Says that a check begins."""

    def __call__(self, title: str, /) -> Progress:
        """Return whom to tell how far the check is."""
        ...
