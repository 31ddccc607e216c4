"""Prints messages, events and errors to stderr, and text for people to stdout."""

import os
import sys

import click
from msgspec import structs

from runner.base import progress
from runner.base.streams import silence_stderr
from runner.cli.verbosity import Verbosity, verbosity
from runner.errors import ProjError
from runner.model import Event, EventKind, Report
from runner.urls import without_credentials

MARKS = {
    EventKind.STEP: ("·", "cyan"),
    EventKind.NOTICE: ("i", "blue"),
    EventKind.WARNING: ("!", "yellow"),
    EventKind.REMARK: ("i", "blue"),
}
_LAYOUT = "\n\t"


def printable(text: str, *, keep: str = "") -> str:
    """Escape the characters that can control a terminal or reverse the text direction, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else repr(letter)[1:-1] for letter in text)


def print_lines(text: str) -> None:
    """Print lines for people to stdout; control characters other than newline and tab are escaped."""
    progress.clear()
    click.echo(printable(text, keep=_LAYOUT))


def print_message(text: str, **style: str | bool) -> None:
    """Print a message to stderr unless the user wants quiet; styled on a terminal unless NO_COLOR is set."""
    if verbosity() > Verbosity.QUIET:
        print_important(text, **style)


def print_warning(text: str, hint: str | None = None) -> None:
    """Print a warning with its hint to stderr."""
    print_important(f"! {text}", fg="yellow")
    if hint:
        print_important(f"  hint: {hint}")


def print_important(text: str, **style: str | bool) -> None:
    """Print a message to stderr that the user always needs: a part of a warning, an error or a question."""
    progress.clear()
    text = printable(text, keep=_LAYOUT)
    if style and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = click.style(text, **style)  # type: ignore[arg-type]
    try:
        click.echo(text, err=True)
    except OSError:
        silence_stderr()  # a closed stderr must not stop the command


def show_event(event: Event) -> None:
    """Print an event with its hint; remarks are for the record, and for users who want more."""
    if event.kind is EventKind.REMARK and verbosity() < Verbosity.VERBOSE:
        return
    mark, colour = MARKS[event.kind]
    shown = print_important if event.kind is EventKind.WARNING else print_message
    shown(f"{mark} {without_credentials(event.message)}", fg=colour)
    if event.hint:
        shown(f"  hint: {without_credentials(event.hint)}")


def show_hints_once(report: Report) -> Report:
    """Return a reporter that passes events on to ``report``, and each hint only with the first event that has it."""
    shown: set[str] = set()

    def passed(event: Event) -> None:
        is_known = event.hint in shown
        if event.hint and event.kind is not EventKind.REMARK:
            shown.add(event.hint)
        report(structs.replace(event, hint=None) if is_known else event)

    return passed


def show_error(error: ProjError) -> None:
    """Print an error that the user can act on: what happened, where, and what to do."""
    print_important(f"error[{error.reference}]: {error.message}", fg="red", bold=True)
    for line in (error.context or "").splitlines():
        print_important(f"  {line}")
    if error.hint:
        print_important(f"  hint: {error.hint}")
    cause = error.__cause__ if verbosity() is Verbosity.VERBOSE else None
    while cause is not None:
        print_important(f"  caused by: {type(cause).__name__}: {without_credentials(str(cause))}")
        cause = cause.__cause__
