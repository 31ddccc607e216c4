"""Defines the findings of a check of proj's home."""

from collections.abc import Callable

from msgspec import Struct

Progress = Callable[[int, int], None]
"""Called with the number of checked items and the number of all items."""


class Finding(Struct, frozen=True, kw_only=True):
    """One damaged item in proj's home.

    ``part`` is ``database``, ``snapshot``, ``lock``, ``environment``, ``artifact`` or ``orphan``; ``name`` is
    its run id, digest, or path relative to the home; ``repair`` is the action that was taken, if any.
    """

    part: str
    name: str
    problem: str
    repair: str | None = None
