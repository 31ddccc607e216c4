"""The package cutoff date of a run: until when packages are considered, and when another date is worth a try."""

from datetime import datetime, timedelta, timezone

from runner.errors import UsageError
from runner.source.snapshot import Snapshot

UPLOAD_MARGIN = timedelta(days=1)
"""Added to the day of a commit: its author had what was uploaded on that day."""
OLD = timedelta(days=180)
"""The age of a commit from which its packages are likely to be others than today's."""


def as_of(asked: str | None, snapshot: Snapshot) -> datetime | None:
    """Return until when packages are considered; None is now.

    A clean commit is of its day. What is not committed, or not in git, is of now.

    Raises:
        UsageError: the words are no date.
    """
    if asked == "now":
        return None
    if asked in (None, "commit"):
        if snapshot.committed_at is not None and (asked or not snapshot.code.dirty):
            return snapshot.committed_at + UPLOAD_MARGIN
        if asked:
            raise UsageError("--as-of commit needs code that is in git", hint="give a date")
        return None
    try:
        moment = datetime.fromisoformat(asked.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"--as-of takes a date such as 2022-05-31, 'commit' or 'now', not {asked!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def offer_commit_day(asked: str | None, snapshot: Snapshot) -> str | None:
    """Return a hint for a failed run of an edited tree whose last commit is old; None where that is not the case.

    Its packages are those of now, while nearly all of its code is of that day.
    """
    day = snapshot.committed_at
    if asked is not None or not snapshot.code.dirty or day is None or datetime.now(timezone.utc) - day < OLD:
        return None
    return (
        f"the tree is edited, so packages are those of now, and its last commit is of {day:%Y-%m-%d}: "
        "'--as-of commit' takes the packages of that day"
    )
