"""Searches for the differences that matter: a minimal set of them that gives the results of the other run.

The search is delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002), over groups
of differences first and inside the groups that matter afterwards.
"""

from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from typing import Generic, TypeVar


class Result(Enum):
    """The result of a run with a part of the differences."""

    ORIGINAL = "original"
    OTHER = "other"
    NEITHER = "neither"
    UNRESOLVED = "unresolved"
    """The run did not come to an end that can be compared."""


T = TypeVar("T", bound=Hashable)
Test = Callable[[frozenset[T]], Result]
"""Runs the original with the given differences taken from the other run."""


class Search(Generic[T]):
    """The state of a search; `current` is valid at any time, also after the test raised an exception.

    `current` are the differences that may matter: together they give the results of the other run.
    """

    def __init__(self, groups: Sequence[Sequence[T]], test: Test[T]) -> None:
        self._groups = [frozenset(group) for group in groups]
        self._order = [item for group in groups for item in group]
        self._test = test
        self.current: frozenset[T] = frozenset(self._order)

    def minimize(self) -> frozenset[T]:
        """Return a set of differences of which none can be left out without losing the results of the other run."""
        for group in self._groups:
            self._try(self.current - group)
        for group in self._groups:
            self._reduce(group & self.current)
        before: frozenset[T] = frozenset()
        while before != self.current:  # what was needed beside a difference may not be needed without it
            before = self.current
            for item in self._sorted(self.current):
                self._try(self.current - {item})
        return self.current

    def _try(self, smaller: frozenset[T]) -> bool:
        if smaller != self.current and self._test(smaller) is Result.OTHER:
            self.current = smaller
            return True
        return False

    def _reduce(self, group: frozenset[T]) -> None:
        """Leave out halves of a group, then halves of the halves."""
        pieces = [group]
        while pieces:
            piece = pieces.pop() & self.current
            if len(piece) < 2:  # noqa: PLR2004  single differences are tried at the end
                continue
            items = self._sorted(piece)
            halves = [frozenset(items[: len(items) // 2]), frozenset(items[len(items) // 2 :])]
            for half in halves:
                if self._try(self.current - half):
                    break
            pieces += halves

    def _sorted(self, items: frozenset[T]) -> list[T]:
        return [item for item in self._order if item in items]
