"""Chooses the release line of Python that was in common use on a given day."""

from collections.abc import Iterable
from datetime import date, timedelta

from runner.environments.version_rules import Version

RELEASED = {
    (3, 6): date(2016, 12, 23),
    (3, 7): date(2018, 6, 27),
    (3, 8): date(2019, 10, 14),
    (3, 9): date(2020, 10, 5),
    (3, 10): date(2021, 10, 4),
    (3, 11): date(2022, 10, 24),
    (3, 12): date(2023, 10, 2),
    (3, 13): date(2024, 10, 7),
    (3, 14): date(2025, 10, 7),
}
"""Dates of the first releases: https://devguide.python.org/versions/. Later lines come every October."""

ADOPTION_TIME = timedelta(days=300)
"""Time after the first release until most packages have wheels for a line."""


def release_date(line: Version) -> date:
    """Return the day of a line's first release; for lines not listed here, by the yearly calendar of PEP 602."""
    known = RELEASED.get((line[0], line[1]))
    if known:
        return known
    return date(2025 + line[1] - 14, 10, 7) if line >= (3, 15) else date.min


def is_in_use(line: Version, day: date) -> bool:
    """Return whether a line had been released long enough before a day to be in common use."""
    return release_date(line) + ADOPTION_TIME <= day


def line_in_use(day: date, lines: Iterable[Version]) -> Version | None:
    """Return the newest of the lines that was in common use on a day, else the oldest of them."""
    ordered = sorted(set(lines))
    settled = [line for line in ordered if is_in_use(line, day)]
    return settled[-1] if settled else next(iter(ordered), None)
