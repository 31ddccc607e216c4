"""How events, errors and results look: talk goes to stderr, data to stdout."""

import os
import sys

import click
from msgspec import structs

from runner.cli.streams import silence_talk
from runner.errors import ProjError
from runner.model import Event, EventKind, Report
from runner.urls import without_credentials

MARKS = {EventKind.STEP: ("·", "cyan"), EventKind.NOTICE: ("i", "blue"), EventKind.WARNING: ("!", "yellow")}


def visible(text: str) -> str:
    """Return text without what would steer a terminal or turn its letters round; lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text)


def print_lines(text: str) -> None:
    """Write lines for people to stdout; what in them comes from elsewhere can't steer the terminal."""
    click.echo(visible(text))


def say(text: str, **style: str | bool) -> None:
    """Write a line of talk to stderr; styled on a terminal unless NO_COLOR is set."""
    text = visible(text)
    if style and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = click.style(text, **style)  # type: ignore[arg-type]
    try:
        click.echo(text, err=True)
    except OSError:
        silence_talk()  # what is done counts, whoever hears of it


def show_event(event: Event) -> None:
    """Show what a part says while it works."""
    if event.kind is EventKind.REMARK:
        return
    mark, colour = MARKS[event.kind]
    say(f"{mark} {without_credentials(event.message)}", fg=colour)
    if event.hint:
        say(f"  hint: {without_credentials(event.hint)}")


def hinting_once(report: Report) -> Report:
    """Return who passes events on, each hint with the first of them only: what was said once needs no saying again."""
    shown: set[str] = set()

    def passed(event: Event) -> None:
        is_known = event.hint in shown
        if event.hint and event.kind is not EventKind.REMARK:
            shown.add(event.hint)
        report(structs.replace(event, hint=None) if is_known else event)

    return passed


def show_error(error: ProjError) -> None:
    """Show a fault that the user can act on: what, where, what to do."""
    say(f"error[{error.reference}]: {error.message}", fg="red", bold=True)
    if error.context:
        for line in error.context.splitlines():
            say(f"  {line}")
    if error.hint:
        say(f"  hint: {error.hint}")
