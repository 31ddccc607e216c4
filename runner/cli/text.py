"""How events, errors and results look: talk goes to stderr, data to stdout."""

import os
import sys

import click

from runner.errors import ProjError
from runner.model import Event, EventKind
from runner.streams import end_stream

_STDOUT = 1
_STDERR = 2

MARKS = {EventKind.STEP: ("·", "cyan"), EventKind.NOTICE: ("i", "blue"), EventKind.WARNING: ("!", "yellow")}


def say(text: str, **style: str | bool) -> None:
    """Write a line of talk to stderr; styled on a terminal unless NO_COLOR is set.

    A closed stderr, or one that takes no more, changes nothing else.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        if style and stream.isatty() and not os.environ.get("NO_COLOR"):
            text = click.style(text, **style)  # type: ignore[arg-type]
        click.echo(text, err=True)
    except (OSError, ValueError):
        if stream is sys.__stderr__:
            end_stream(_STDERR)


def print_data(text: str) -> bool:
    """Write data to stdout; say whether it is there. Where it is not, the user is told why."""
    try:
        click.echo(text)
    except (OSError, ValueError) as error:
        say(f"The output can't be written: {error}")
        if sys.stdout is sys.__stdout__:
            end_stream(_STDOUT)
        return False
    return True


def show_event(event: Event) -> None:
    """Show what a part says while it works."""
    if event.kind is EventKind.REMARK:
        return
    mark, colour = MARKS[event.kind]
    say(f"{mark} {event.message}", fg=colour)
    if event.hint:
        say(f"  hint: {event.hint}")


def show_error(error: ProjError) -> None:
    """Show a fault that the user can act on: what, where, what to do."""
    say(f"error[{error.reference}]: {error.message}", fg="red", bold=True)
    if error.context:
        for line in error.context.splitlines():
            say(f"  {line}")
    if error.hint:
        say(f"  hint: {error.hint}")
