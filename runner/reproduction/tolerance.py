"""Decides which differences between two numbers are allowed, and by which rule."""

import math
import struct
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from runner.reproduction.verdict import Verdict


class Allowance(Struct, frozen=True, kw_only=True):
    """A rule: two numbers may differ by ``atol`` plus ``rtol`` times the magnitude of the original.

    ``source`` is the rule for people.
    """

    rtol: float = 0.0
    atol: float = 0.0
    source: str

    def admits(self, original: float, reproduced: float) -> bool:
        """Return whether the rule allows a difference; a value that is not finite never differs by little."""
        if not (math.isfinite(original) and math.isfinite(reproduced)):
            return False
        return abs(original - reproduced) <= self.atol + self.rtol * abs(original)


class Tolerances(Struct, frozen=True, kw_only=True):
    """The rules of a reproduction: for all numbers, and for metrics and outputs by name.

    Rules that are given with the command replace all others.
    """

    given: Allowance | None = None
    declared: Allowance | None = None
    named: Sequence[tuple[str, Allowance]] = ()
    """Patterns of metrics with their rules; the first one that matches counts."""
    ignored: Mapping[str, tuple[str, ...]] = {}
    """Patterns of outputs with regular expressions for the texts in them that are not compared."""
    noise: Mapping[str, Allowance] = {}
    output_noise: Mapping[str, Allowance] = {}

    def for_metric(self, name: str) -> tuple[Allowance, ...]:
        """Return the rules for a metric; any of them may allow a difference."""
        named = next((rule for pattern, rule in self.named if fnmatchcase(name, pattern)), None)
        return self._rules(named, self.noise.get(name))

    def ignored_in(self, name: str) -> tuple[str, ...]:
        """Return the regular expressions for texts of an output that are not compared."""
        return tuple(text for pattern, texts in self.ignored.items() if fnmatchcase(name, pattern) for text in texts)

    def for_output(self, name: str) -> tuple[Allowance, ...]:
        """Return the rules for the numbers in an output file."""
        return self._rules(None, self.output_noise.get(name))

    def _rules(self, named: Allowance | None, noise: Allowance | None) -> tuple[Allowance, ...]:
        if self.given is not None:
            return (self.given,)
        return tuple(rule for rule in (named or self.declared, noise) if rule is not None)


def compare_numbers(
    original: float, reproduced: float, rules: Sequence[Allowance]
) -> tuple[Verdict, float | None, str | None]:
    """Return verdict, difference and rule of two numbers; NaN equals NaN, and the rule says so."""
    if math.isnan(original) and math.isnan(reproduced):
        return Verdict.IDENTICAL, 0.0, "NaN equals NaN"
    if struct.pack("<d", original) == struct.pack("<d", reproduced):
        return Verdict.IDENTICAL, 0.0, None
    difference = abs(original - reproduced)
    rule = next((rule for rule in rules if rule.admits(original, reproduced)), None)
    if rule is not None:
        return Verdict.WITHIN_TOLERANCE, difference, rule.source
    return Verdict.DIFFERENT, difference if math.isfinite(difference) else None, None
