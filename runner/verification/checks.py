"""Runs the checks of `proj verify`, in dependency order."""

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

_UNREADABLE = "it can't be read completely"


class CheckFunction(Protocol):
    """Checks one part of the home; ``repair`` enables repairs that lose no data."""

    def __call__(self, home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
        """Yield a finding for each damaged item; ``progress`` is called regularly."""
        ...


class Check(Struct, frozen=True):
    """A check and its title for display."""

    title: str
    look: CheckFunction


CHECKS: tuple[Check, ...] = (
    Check("database", verify_store),
    # Runs without a row are recovered first, because the following checks compare files with rows.
    Check("files without a run", verify_orphans),
    Check("runs without files", verify_records),
    Check("snapshots", verify_snapshots),
    Check("locks", verify_locks),
    Check("environments", verify_environments),
    Check("artifacts", verify_artifacts),
)


def verify_home(home: Home, *, repair: bool, begin: "BeginCheck") -> Iterator[Finding]:
    """Run all checks and yield the findings.

    Args:
        home: the home to look at.
        repair: whether to repair damage.
        begin: called with the title of each check; returns the progress callback of that check.

    Raises:
        ProjError: the home can't be read, or a newer proj wrote it.
    """
    is_reported = False
    for check in CHECKS:
        for finding in _findings(check, home, repair, begin(check.title)):
            if not (is_reported and finding.problem == _UNREADABLE):
                yield finding
            is_reported = is_reported or finding.part == "database"


def _findings(check: Check, home: Home, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Run one check; a damaged database becomes a finding, so that the next check can run."""
    try:
        yield from check.look(home, repair=repair, progress=progress)
    except DamagedStoreError:
        yield Finding(part="database", name=home.database.name, problem=_UNREADABLE)


class BeginCheck(Protocol):
    """Announces the start of a check."""

    def __call__(self, title: str, /) -> Progress:
        """Return the progress callback of the check."""
        ...
