"""``proj python``: lists the Python interpreters of this machine, and shows which one a version rule selects."""

import os
from datetime import datetime, timezone

import click
import msgspec
from msgspec import Struct

from runner.cli.groups import CommandGroup
from runner.cli.home import enter_home
from runner.cli.text import print_lines, print_message
from runner.environments.interpreters.choosing import choose
from runner.environments.interpreters.interpreters import discover, origin
from runner.environments.model import Interpreter


class Row(Struct, frozen=True, kw_only=True):
    """An interpreter: the stable JSON of ``proj python list --json``."""

    version: str
    implementation: str
    platform: str
    path: str
    origin: str
    chosen: bool = False


@click.group("python", cls=CommandGroup)
def python() -> None:
    """Inspect the Python interpreters for environments."""


@python.command("list")
@click.argument("rule", default="", metavar="[RULE]")
@click.option("--as-of", "day", type=click.DateTime(), metavar="DATE", help="Choose as for code of this date.")
@click.option("--json", "as_json", is_flag=True, help="Print them as a JSON list.")
def list_pythons(rule: str, day: datetime | None, as_json: bool) -> None:
    """List the Python interpreters, newest first; a star marks the one for RULE, such as ">=3.8,<3.11".

    \b
    Examples:
      proj python list
    """  # noqa: D301  # click reads the control character
    found = discover(enter_home().root / "interpreters.json", os.environ)
    chosen = choose(rule, found, day and day.replace(tzinfo=timezone.utc)) if rule or day else None
    ordered = sorted(found, key=lambda item: item.numbers, reverse=True)
    rows = [_row(item, chosen.interpreter if chosen else None) for item in ordered]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    for row in () if as_json else rows:
        name = row.version if row.implementation == "cpython" else f"{row.implementation} {row.version}"
        print_lines(f"{'*' if row.chosen else ' '} {name:<12} {row.origin:<12} {row.path}")
    if chosen and chosen.notice:
        print_message(chosen.notice)
    if not found:
        print_message("no Python interpreter was found; install one with 'uv python install 3.12'")


def _row(item: Interpreter, chosen: Interpreter | None) -> Row:
    return Row(
        version=item.version,
        implementation=item.implementation,
        platform=item.platform,
        path=item.path,
        origin=origin(item, os.environ),
        chosen=item == chosen,
    )
