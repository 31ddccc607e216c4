"""Defines the findings of a check of proj's home."""

from collections.abc import Callable

from msgspec import Struct

Progress = Callable[[int, int], None]
"""Called with the number of things that were checked and the number of all of them."""


class Finding(Struct, frozen=True, kw_only=True):
    """One damaged thing in proj's home.

    ``part`` is ``database``, ``snapshot``, ``lock``, ``environment``, ``artifact`` or ``orphan``; ``name`` says which
    one (a run id, a digest, a path relative to the home); ``repair`` says what was done about it, if anything was.
    """

    part: str
    name: str
    problem: str
    repair: str | None = None
