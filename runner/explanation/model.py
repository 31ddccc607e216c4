"""Defines the explanation of a difference: the JSON object of ``proj explain --json``."""

from msgspec import Struct

from runner.reproduction.causes import Cause, CauseKind


class RecordedDifference(Struct, frozen=True, kw_only=True):
    """A recorded difference between two runs, whether or not it matters; None where a run lacks the value."""

    kind: CauseKind
    name: str
    original: str | None = None
    other: str | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """Why the results of two runs differ.

    ``results`` are the results that differ; ``is_complete`` says that the proven causes explain all of them.
    ``undecided`` is the reason why something is not decided. ``runs`` are the runs that were made.
    """

    original: str
    other: str
    results: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    differences: tuple[RecordedDifference, ...] = ()
    is_complete: bool = False
    undecided: str | None = None
    runs: tuple[str, ...] = ()
    seconds: float = 0.0
