"""Chooses the interpreter of an environment by the declared version, the date of the code, and what is installed."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone

from msgspec import Struct

from runner.environments.interpreters.interpreters import describe
from runner.environments.interpreters.release_lines import is_in_use, line_in_use
from runner.environments.model import Interpreter
from runner.environments.version_rules import Rule, Version, parse_rule, write_version
from runner.errors import EnvironmentSetupError

PATH = re.compile(r"[/\\]|\.exe$", re.IGNORECASE)


class Choice(Struct, frozen=True):
    """The chosen interpreter and an optional reason; ``departs`` is true if it is not the declared one."""

    interpreter: Interpreter
    notice: str | None = None
    departs: bool = False


def choose(rule: str | None, interpreters: Sequence[Interpreter], as_of: datetime | None) -> Choice:
    """Choose the interpreter for a version rule, as of a time (None is now).

    Raises:
        MissingInterpreterError: no installed interpreter satisfies the rule.
        EnvironmentSetupError: the rule is invalid.
    """
    if rule and PATH.search(rule):
        by_date = choose(None, interpreters, as_of).interpreter
        return Choice(
            by_date, f"python '{rule}' is a path that exists on one machine only; {by_date.name} is used", departs=True
        )
    declared = parse_rule(rule)
    usual = [item for item in interpreters if item.implementation == "cpython"] or list(interpreters)
    fitting = [item for item in usual if declared.admits(item.version)]
    # PEP 440: prereleases are considered only if no release satisfies the rule.
    fitting = fitting or [item for item in usual if declared.admits(item.version, prereleases=True)]
    if fitting:
        return _newest_of_line(declared, fitting, as_of)
    near = [item for item in usual if declared.exact and item.line == declared.exact[:2]]
    if declared.exact and near:
        other = _nearest(near, declared.exact)
        return Choice(
            other, f"Python {declared.text} is not installed; {other.name} of the same line is used", departs=True
        )
    raise MissingInterpreterError(declared, interpreters)


class MissingInterpreterError(EnvironmentSetupError):
    """No interpreter of this machine satisfies a version rule."""

    def __init__(self, rule: Rule, interpreters: Sequence[Interpreter]) -> None:
        wanted = write_version(rule.line) if rule.line else rule.text or "3"
        super().__init__(
            f"Python {rule.text or 'of any version'} is required but not installed; found: {describe(interpreters)}",
            hint=f"Install it ('uv python install {wanted}', or pyenv), or change the version in the environment file.",
        )
        self.rule = rule


def _newest_of_line(rule: Rule, fitting: list[Interpreter], as_of: datetime | None) -> Choice:
    day = (as_of or datetime.now(timezone.utc)).date()
    line = rule.line or line_in_use(day, (item.line for item in fitting))
    chosen = max((item for item in fitting if item.line == line), key=lambda item: item.numbers)
    return Choice(chosen, None if rule.line or as_of is None else _by_date(rule, chosen, day))


def _by_date(rule: Rule, chosen: Interpreter, day: date) -> str:
    declared = f"'{rule.text}' does not fix the version of Python" if rule.text else "No version of Python is declared"
    was_out = is_in_use(chosen.line, day)
    why = (
        f"the newest installed one in common use in {day:%B %Y}"
        if was_out
        else f"as all installed ones are later than {day:%B %Y}"
    )
    return f"{declared}: {chosen.name} is used, {why}; a version in the environment file takes precedence"


def _nearest(near: list[Interpreter], exact: Version) -> Interpreter:
    """Return the next later patch release, else the latest earlier one."""
    newer = [item for item in near if item.numbers > exact]
    return min(newer, key=lambda item: item.numbers) if newer else max(near, key=lambda item: item.numbers)


def downloads_allowed(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the user allows uv to download interpreters."""
    refused = environ.get("UV_PYTHON_DOWNLOADS", "").lower() in ("never", "manual", "false", "0")
    offline = environ.get("UV_OFFLINE", "").lower() in ("1", "true", "yes")
    return not (refused or offline)
