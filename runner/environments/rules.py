"""Version rules for interpreters, small enough for every start: ``3.9``, ``3.9.18``, ``3.9.*``, ``>=3.8,<3.11``."""

import re

from msgspec import Struct

from runner.errors import EnvironmentSetupError

Version = tuple[int, ...]
LONGEST = 200
"""Characters of a rule; the numbers in it are bounded with it."""
CLAUSE = re.compile(r"(?P<operator>===|==|>=|<=|!=|~=|>|<|=)?\s*(?P<version>\d+(?:\.\d+)*)(?P<star>\.?\*)?")


class Clause(Struct, frozen=True):
    """One bound of a rule; ``=`` is a prefix: ``=3.9`` admits 3.9.18."""

    operator: str
    version: Version

    def admits(self, version: Version) -> bool:
        """Say whether a version satisfies the bound."""
        prefix = version[: len(self.version)] == self.version
        compared = (version > self.version) - (version < self.version)
        return {
            "=": prefix,
            "!=": not prefix,
            ">=": compared >= 0,
            "<=": compared <= 0 or prefix,
            ">": compared > 0 and not prefix,
            "<": compared < 0,
            "~=": compared >= 0 and version[: len(self.version) - 1] == self.version[:-1],
        }[self.operator]


class Rule(Struct, frozen=True):
    """What versions of Python will do; without clauses any."""

    text: str
    clauses: tuple[Clause, ...] = ()

    def admits(self, version: Version) -> bool:
        """Say whether a version satisfies the rule."""
        return all(clause.admits(version) for clause in self.clauses)

    @property
    def exact(self) -> Version | None:
        """The version, when the rule asks for one patch release."""
        only = self.clauses[0] if len(self.clauses) == 1 else None
        return only.version if only and only.operator == "=" and len(only.version) >= 3 else None  # noqa: PLR2004

    @property
    def line(self) -> Version | None:
        """The release line (major, minor), when the rule is bound to one."""
        only = self.clauses[0] if len(self.clauses) == 1 else None
        return only.version[:2] if only and only.operator == "=" and len(only.version) >= 2 else None  # noqa: PLR2004


def bounds(rule: Rule, line: Version) -> tuple[Clause, ...]:
    """Return a rule as bounds of whole versions, from below by a release line where the rule itself is open there.

    One patch release stands for its line, as another one of the line does where it is not there.
    """
    found = [bound for clause in rule.clauses for bound in _bounds(clause)]
    is_open = not any(bound.operator == ">=" and bound.version >= OLDEST_LINE for bound in found)
    return (*((Clause(">=", line),) if is_open else ()), *found)


def _bounds(clause: Clause) -> tuple[Clause, ...]:
    version = clause.version
    if clause.operator == "=":
        line = version[:2]
        return Clause(">=", line), Clause("<", _next(line))
    if clause.operator == "~=":
        return Clause(">=", version), Clause("<", _next(version[:-1]))
    if clause.operator == "<=":
        return (Clause("<", _next(version)),)
    return (Clause(">=", _next(version)),) if clause.operator == ">" else (clause,)


def _next(version: Version) -> Version:
    return (*version[:-1], version[-1] + 1)


OLDEST_LINE = (3, 6)
"""A bound below this line says no more than that Python 2 is not meant."""


def parse_rule(text: str | None) -> Rule:
    """Read a version rule.

    Raises:
        EnvironmentSetupError: it is not one.
    """
    words = (text or "").strip().removeprefix("python").removeprefix("cpython").strip()
    if len(words) > LONGEST:
        raise EnvironmentSetupError(f"a rule of {len(words):,} characters is not a version of Python")
    if not words or words == "*":
        return Rule("")
    clauses = []
    for part in words.split(","):
        match = CLAUSE.fullmatch(part.strip())
        if not match:
            raise EnvironmentSetupError(
                f"'{text}' is not a version of Python", hint="Write it like '3.11', '3.11.7' or '>=3.9,<3.12'."
            )
        version = tuple(int(number) for number in match["version"].split("."))
        operator = match["operator"] or "="
        clauses.append(Clause("=" if operator in ("==", "===") else operator, version))
    return Rule(words, tuple(clauses))


def parse_version(text: str) -> Version:
    """Return the release numbers at the start of a version."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def write_version(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(str(number) for number in version)
