"""Defines the causes of a difference between the results of two runs."""

from enum import Enum

from msgspec import Struct


class CauseKind(str, Enum):
    """The kind of a cause."""

    CODE = "code"
    PACKAGE = "package"
    PARAMETER = "parameter"
    INPUT = "input"
    INTERPRETER = "interpreter"
    VARIABLE = "variable"
    THREADS = "threads"
    MACHINE = "machine"
    NOISE = "noise"
    """The results differ although nothing that is recorded does."""


class Cause(Struct, frozen=True, kw_only=True):
    """A cause of a difference, or a suspected one.

    ``proven`` means that runs which differ in this alone had different results; ``evidence`` are their ids.
    ``original`` and ``other`` are the values in the two runs, ``detail`` is the reason for people.
    """

    kind: CauseKind
    name: str
    proven: bool
    evidence: tuple[str, ...] = ()
    original: str | None = None
    other: str | None = None
    detail: str | None = None
