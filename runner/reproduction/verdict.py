"""Defines the verdicts of a reproduction; `decide` makes the verdict of the whole from those of its parts."""

import math
from collections.abc import Iterable
from enum import Enum

from msgspec import UNSET, Struct, UnsetType

from runner.model import RunStatus
from runner.reproduction.causes import Cause


class Verdict(str, Enum):
    """How a reproduced result compares with the original one."""

    IDENTICAL = "identical"
    """Equal to the bit."""
    WITHIN_TOLERANCE = "within tolerance"
    """Different by no more than a rule allows that was declared, given or measured."""
    DIFFERENT = "different"
    NOTHING_TO_COMPARE = "nothing to compare"
    INCOMPLETE = "incomplete"
    """One of the two sides lacks something."""
    FAILED = "failed"
    """The run did not come to the end that the original one reached."""

    @property
    def is_reproduced(self) -> bool:
        """Whether the results count as the same."""
        return self in (Verdict.IDENTICAL, Verdict.WITHIN_TOLERANCE)


SEVERITY = (
    Verdict.FAILED,
    Verdict.DIFFERENT,
    Verdict.INCOMPLETE,
    Verdict.WITHIN_TOLERANCE,
    Verdict.IDENTICAL,
    Verdict.NOTHING_TO_COMPARE,
)
"""The verdicts in the order in which the verdict of a part decides about the whole."""

Value = float | int | str | None


class Comparison(Struct, frozen=True, kw_only=True):
    """The comparison of one metric, output, exit code or status.

    ``difference`` is the largest difference of two numbers, None if the values are no numbers or one is missing.
    ``rule`` is what allowed the difference, or how the values were compared; ``detail`` is the reason, for people.
    """

    name: str
    verdict: Verdict
    original: Value = None
    reproduced: Value = None
    difference: Value = None
    rule: str | None = None
    detail: str | None = None


class Finding(Struct, frozen=True, kw_only=True):
    """The comparison of the content of two files; ``how`` says how they were compared."""

    verdict: Verdict
    how: str
    difference: float | None = None
    rule: str | None = None
    detail: str | None = None


class InputState(str, Enum):
    """What became of an input since the original run."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    MISSING = "missing"
    NOT_RECORDED = "not recorded"
    """The original run has no digest of it, so nothing is known."""


class InputCheck(Struct, frozen=True, kw_only=True):
    """An input of the original run, and its state before the reproduction; ``path`` is where it was looked for."""

    name: str
    state: InputState
    path: str | None = None


class Reproduction(Struct, frozen=True, kw_only=True):
    """The result of a reproduction: the JSON object of ``proj reproduce --json``.

    ``original`` and ``run_id`` are ids of runs; ``run_id`` is None if nothing was started. ``tolerance`` names each
    rule that allowed a difference. ``reason`` says why nothing was started or the run failed. ``causes``, and
    ``undecided``, why something is not explained, are set if an explanation was asked for.
    """

    verdict: Verdict
    original: str
    run_id: str | None = None
    reason: str | None = None
    status: Comparison | None = None
    exit_code: Comparison | None = None
    metrics: tuple[Comparison, ...] = ()
    outputs: tuple[Comparison, ...] = ()
    inputs: tuple[InputCheck, ...] = ()
    environment: tuple[Comparison, ...] = ()
    tolerance: tuple[str, ...] = ()
    causes: tuple[Cause, ...] | UnsetType = UNSET
    undecided: str | UnsetType | None = UNSET

    @property
    def parts(self) -> tuple[Comparison, ...]:
        """The comparisons that decide the verdict."""
        return tuple(part for part in (self.status, self.exit_code, *self.metrics, *self.outputs) if part is not None)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a whole from those of its results; without any result there is nothing to compare."""
    found = set(verdicts)
    return next((verdict for verdict in SEVERITY if verdict in found), Verdict.NOTHING_TO_COMPARE)


def decide(original: RunStatus, reproduced: RunStatus, ends: Iterable[Verdict], results: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a reproduction that was run.

    ``ends`` are the verdicts of status and exit code: they can make runs different, but two runs that ended alike
    and have no results are not the same.
    """
    if original is RunStatus.FINISHED and reproduced is not RunStatus.FINISHED:
        return Verdict.FAILED
    if original in (RunStatus.KILLED, RunStatus.LOST):
        return Verdict.INCOMPLETE
    found = worst(results)
    return Verdict.DIFFERENT if Verdict.DIFFERENT in ends else found


def shown(value: float | str | None) -> Value:
    """Return a value for JSON, which has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
