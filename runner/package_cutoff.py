"""Decides the package cutoff date of a run: only packages uploaded before it are considered."""

from datetime import datetime, timedelta, timezone

from runner.errors import UsageError
from runner.source.snapshot import Snapshot

UPLOAD_MARGIN = timedelta(days=1)
"""Added to the time of a commit, so that packages uploaded on the same day are included."""
OLD = timedelta(days=180)
"""Age of a commit at which the newest packages are likely too new for it."""


def cutoff_date(as_of: str | None, snapshot: Snapshot) -> datetime | None:
    """Return the package cutoff date for a value of ``--as-of``; None means now.

    The default is the day of the commit for a clean commit, and now for code that is dirty or not in git.

    Raises:
        UsageError: the value is not a date.
    """
    if as_of == "now":
        return None
    if as_of in (None, "commit"):
        if snapshot.committed_at is not None and (as_of or not snapshot.code.dirty):
            return snapshot.committed_at + UPLOAD_MARGIN
        if as_of:
            raise UsageError("--as-of commit needs code that is in git", hint="give a date such as 2022-05-31")
        return None
    try:
        moment = datetime.fromisoformat(as_of.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"--as-of takes a date such as 2022-05-31, 'commit' or 'now', not {as_of!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def cutoff_hint(as_of: str | None, snapshot: Snapshot) -> str | None:
    """Return a hint for a failed run of a dirty tree whose last commit is old; None for any other tree.

    Such a run uses today's packages, although nearly all of its code is as old as the commit.
    """
    day = snapshot.committed_at
    if as_of is not None or not snapshot.code.dirty or day is None or datetime.now(timezone.utc) - day < OLD:
        return None
    return (
        f"the tree has uncommitted changes, so the newest packages were used; its last commit is of {day:%Y-%m-%d}: "
        "'--as-of commit' uses the packages of that day"
    )
