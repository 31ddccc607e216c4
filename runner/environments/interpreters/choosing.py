"""Chooses the interpreter of an environment: what is asked for, then the day of the code, then what is there."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone

from msgspec import Struct

from runner.environments.declare.version_rules import Rule, Version, parse_rule, write_version
from runner.environments.interpreters.interpreters import Interpreter, describe
from runner.environments.resolve.cutoff import is_settled, line_of
from runner.errors import EnvironmentSetupError

PLACE = re.compile(r"[/\\]|\.exe$", re.IGNORECASE)


class Choice(Struct, frozen=True):
    """The chosen interpreter and, when that needs words, why; ``departs`` where it is not the one asked for."""

    interpreter: Interpreter
    notice: str | None = None
    departs: bool = False


def choose(rule: str | None, interpreters: Sequence[Interpreter], as_of: datetime | None) -> Choice:
    """Choose the interpreter for a rule, as of a time (None is now).

    Raises:
        MissingInterpreterError: none that is installed satisfies the rule.
        EnvironmentSetupError: the rule is not one.
    """
    if rule and PLACE.search(rule):
        by_date = choose(None, interpreters, as_of).interpreter
        return Choice(by_date, f"python '{rule}' is a place on one machine; {by_date.name} is used", departs=True)
    asked = parse_rule(rule)
    usual = [item for item in interpreters if item.implementation == "cpython"] or list(interpreters)
    fitting = [item for item in usual if asked.admits(item.version)]
    # As PEP 440 has it, a version of before its release counts where nothing else satisfies the rule.
    fitting = fitting or [item for item in usual if asked.admits(item.version, prereleases=True)]
    if fitting:
        return _newest_of_line(asked, fitting, as_of)
    near = [item for item in usual if asked.exact and item.line == asked.exact[:2]]
    if asked.exact and near:
        other = _nearest(near, asked.exact)
        return Choice(
            other, f"Python {asked.text} is not installed; {other.name} of the same line is used", departs=True
        )
    raise MissingInterpreterError(asked, interpreters)


class MissingInterpreterError(EnvironmentSetupError):
    """No interpreter of this machine satisfies a rule."""

    def __init__(self, rule: Rule, interpreters: Sequence[Interpreter]) -> None:
        wanted = write_version(rule.line) if rule.line else rule.text or "3"
        super().__init__(
            f"Python {rule.text or 'of any version'} is needed and not installed; there is {describe(interpreters)}",
            hint=f"Install it ('uv python install {wanted}', or pyenv), or change the version in the environment file.",
        )
        self.rule = rule


def _newest_of_line(rule: Rule, fitting: list[Interpreter], as_of: datetime | None) -> Choice:
    day = (as_of or datetime.now(timezone.utc)).date()
    line = rule.line or line_of(day, (item.line for item in fitting))
    chosen = max((item for item in fitting if item.line == line), key=lambda item: item.numbers)
    return Choice(chosen, None if rule.line or as_of is None else _by_date(rule, chosen, day))


def _by_date(rule: Rule, chosen: Interpreter, day: date) -> str:
    asked = f"'{rule.text}' leaves the version of Python open" if rule.text else "No version of Python is asked for"
    was_out = is_settled(chosen.line, day)
    why = (
        f"the newest here that was in common use in {day:%B %Y}" if was_out else f"as all here are of after {day:%B %Y}"
    )
    return f"{asked}: {chosen.name} is used, {why}; one in the environment file decides otherwise"


def _nearest(near: list[Interpreter], exact: Version) -> Interpreter:
    """Return the next newer patch release, else the newest older one."""
    newer = [item for item in near if item.numbers > exact]
    return min(newer, key=lambda item: item.numbers) if newer else max(near, key=lambda item: item.numbers)


def downloads_allowed(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether the user lets uv fetch interpreters."""
    refused = environ.get("UV_PYTHON_DOWNLOADS", "").lower() in ("never", "manual", "false", "0")
    offline = environ.get("UV_OFFLINE", "").lower() in ("1", "true", "yes")
    return not (refused or offline)
