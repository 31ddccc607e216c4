"""Parses version rules for interpreters: those of PEP 440, and the plain ``3.9`` of MLflow and conda (``3.9.*``).

Plain rules, which are by far the most frequent, need no library. ``packaging`` is imported only for the others,
because its import is slow.
"""

import re

from msgspec import Struct

from runner.errors import EnvironmentSetupError

Version = tuple[int, ...]
LONGEST = 200
"""Most characters of a rule, which also limits the numbers in it."""
PLAIN = re.compile(r"(?:={0,3}\s*(?P<starred>\d+(?:\.\d+)*)\.?\*|=?\s*(?P<version>\d+(?:\.\d+)*))")
"""Rules that match a prefix: ``3.9``, ``=3.9``, ``3.9.*``, ``==3.9.*``. ``==3.9`` matches one release."""
PRERELEASE = re.compile(r"\d+(?:\.\d+)*(?:a|b|rc)\d+")
HINT = "Use a form such as '3.11', '3.11.7' or '>=3.9,<3.12'."


class Clause(Struct, frozen=True):
    """One clause of a rule, with the numbers of its release. ``=`` matches a prefix: ``=3.9`` admits 3.9.18.

    ``is_prefix`` is true for another operator with a wildcard: ``!=3.9.*``.
    """

    operator: str
    version: Version
    is_prefix: bool = False

    @property
    def text(self) -> str:
        """The clause in the syntax of PEP 440."""
        star = ".*" if self.is_prefix or self.operator == "=" else ""
        return f"{'==' if self.operator == '=' else self.operator}{write_version(self.version)}{star}"


class Rule(Struct, frozen=True):
    """A rule for versions of Python; without clauses it admits any. ``specifiers`` is the rule in PEP 440 syntax."""

    text: str
    clauses: tuple[Clause, ...] = ()
    specifiers: str = ""

    def admits(self, version: str, *, prereleases: bool = False) -> bool:
        """Return whether a version satisfies the rule.

        A prerelease does so only if the rule names one or ``prereleases`` is true.
        """
        numbers = parse_version(version)
        if is_prerelease(version) and not (prereleases or re.search(r"\d(?:a|b|rc|\.?dev)\d", self.specifiers)):
            return False
        if all(clause.operator == "=" for clause in self.clauses):
            return all(numbers[: len(clause.version)] == clause.version for clause in self.clauses)
        from packaging.specifiers import SpecifierSet

        found = PRERELEASE.match(version)
        return SpecifierSet(self.specifiers).contains(found[0] if found else write_version(numbers), prereleases=True)

    @property
    def exact(self) -> Version | None:
        """The version, if the rule admits one patch release only."""
        only = self.clauses[0] if len(self.clauses) == 1 else None
        if only is None or only.is_prefix or only.operator not in ("=", "==", "==="):
            return None
        is_release = only.operator != "=" or len(only.version) >= 3  # noqa: PLR2004
        return (*only.version, 0, 0)[: max(3, len(only.version))] if is_release else None

    @property
    def line(self) -> Version | None:
        """The release line (major, minor), if the rule admits one line only."""
        only = self.clauses[0] if len(self.clauses) == 1 else None
        is_one = only is not None and only.operator in ("=", "==", "===") and len(only.version) >= 2  # noqa: PLR2004
        return only.version[:2] if only and is_one else None


def bounds(rule: Rule, line: Version) -> tuple[Clause, ...]:
    """Return a rule as version bounds; ``line`` is the lower bound if the rule has none.

    A rule for one patch release is widened to its release line, because another patch release of the line is used
    when that one is not installed.
    """
    found = [bound for clause in rule.clauses for bound in _bounds(clause)]
    is_open = not any(bound.operator == ">=" and bound.version >= OLDEST_LINE for bound in found)
    return (*((Clause(">=", line),) if is_open else ()), *found)


def _bounds(clause: Clause) -> tuple[Clause, ...]:
    version = clause.version
    if clause.operator in ("=", "==", "==="):
        line = version[:2]
        return Clause(">=", line), Clause("<", _next(line))
    if clause.operator == "~=":
        return Clause(">=", version), Clause("<", _next(version[:-1]))
    return (Clause(">=", version), clause) if clause.operator == ">" else (clause,)


def _next(version: Version) -> Version:
    return (*version[:-1], version[-1] + 1)


OLDEST_LINE = (3, 6)
"""A lower bound below this line only excludes Python 2."""


def parse_rule(text: str | None) -> Rule:
    """Parse a version rule.

    Raises:
        EnvironmentSetupError: the text is not a version rule.
    """
    words = (text or "").strip().removeprefix("python").removeprefix("cpython").strip()
    if len(words) > LONGEST:
        raise EnvironmentSetupError(f"a version rule for Python is too long: {len(words):,} characters")
    if not words or words == "*":
        return Rule("")
    clauses, specifiers = [], []
    for part in (part.strip() for part in words.rstrip(",").split(",")):
        plain = PLAIN.fullmatch(part)
        clause = Clause("=", _numbers(plain["starred"] or plain["version"])) if plain else _clause(part, text or "")
        clauses.append(clause)
        specifiers.append(clause.text if plain else part)
    return Rule(words, tuple(clauses), ",".join(specifiers))


def _clause(part: str, text: str) -> Clause:
    from packaging.specifiers import InvalidSpecifier, Specifier
    from packaging.version import InvalidVersion
    from packaging.version import Version as Release

    if lone := re.fullmatch(r"~=\s*(\d+)", part):
        raise EnvironmentSetupError(
            f"'{text}' is not a version of Python: '~=' needs at least two numbers, such as '~=3.8'",
            hint=f"'~=3.8' means 3.8 and all later ones of 3; for any version of {lone[1]} write '{lone[1]}'.",
        )
    try:
        specifier = Specifier(part)
        is_prefix = specifier.version.endswith(".*")
        release = Release(specifier.version.removesuffix(".*")).release
    except (InvalidSpecifier, InvalidVersion) as error:
        raise EnvironmentSetupError(f"'{text}' is not a version of Python", hint=HINT) from error
    return Clause(specifier.operator, release, is_prefix)


def parse_version(text: str) -> Version:
    """Parse the release numbers at the start of a version."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return _numbers(match[0]) if match else ()


def _numbers(text: str) -> Version:
    return tuple(int(number) for number in text.split("."))


def is_prerelease(version: str) -> bool:
    """Return whether a version of Python is a prerelease."""
    return PRERELEASE.match(version) is not None


def write_version(version: Version) -> str:
    """Format a version: ``3.11.7``."""
    return ".".join(str(number) for number in version)
