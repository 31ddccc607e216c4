"""``proj verify``: whether everything in proj's home is whole, and its repair."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec

from runner.base.findings import Finding, Progress
from runner.cli.home import enter_home
from runner.cli.output import clean
from runner.cli.text import say
from runner.verification.checks import BeginCheck, verify_home


@click.command("verify")
@click.option("--repair", is_flag=True, help="Repair what can be repaired; nothing that could be an only copy goes.")
@click.option("--json", "as_json", is_flag=True, help="Print what is damaged as a JSON list.")
def verify(repair: bool, as_json: bool) -> int:
    """Check all that proj keeps: database, snapshots, locks, environments, artifacts; 1 where damage is left."""
    home = enter_home()
    left = count = 0
    with _progress() as begin:
        for finding in verify_home(home, repair=repair, begin=begin):
            _print(finding, is_first=count == 0, as_json=as_json)
            count += 1
            left += finding.repair is None
    if as_json:
        click.echo("\n]" if count else "[]")
    say(_summary(count, left, repair=repair))
    return 1 if left else 0


def _print(finding: Finding, *, is_first: bool, as_json: bool) -> None:
    """Print a finding as soon as it is there: a damaged home may have thousands."""
    if as_json:
        click.echo(f"{'[' if is_first else ','}\n  {msgspec.json.encode(finding).decode()}", nl=False)
        return
    click.echo(f"{finding.part}  {clean(finding.name)}: {clean(finding.problem)}")
    if finding.repair:
        click.echo(f"  repaired: {clean(finding.repair)}")


def _summary(count: int, left: int, *, repair: bool) -> str:
    if not count:
        return "everything is whole"
    healed = f"{count - left} of {count} damaged things repaired" if repair else f"{count} damaged things"
    return healed if repair or not left else f"{healed}; --repair repairs what can be repaired"


@contextmanager
def _progress() -> Iterator[BeginCheck]:
    """Show how far the checks are, on a terminal; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield lambda _title: lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:

        def begin(title: str) -> Progress:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield begin
