"""``proj verify``: checks all data in proj's home, and repairs it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec

from runner.base.findings import Finding, Progress
from runner.base.plurals import counted
from runner.cli.home import enter_home
from runner.cli.text import print_message, printable
from runner.verification.checks import BeginCheck, verify_home


@click.command("verify")
@click.option("--repair", is_flag=True, help="Repair damage where possible; the only copy of data is never removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the damage as a JSON list.")
def verify(repair: bool, as_json: bool) -> int:
    """Check all data in proj's home: database, snapshots, locks, environments, artifacts.

    The exit code is 1 if damage remains.

    \b
    Examples:
      proj verify
      proj verify --repair
    """  # noqa: D301  # click reads the control character
    home = enter_home()
    left = count = 0
    with _progress() as begin:
        for finding in verify_home(home, repair=repair, begin=begin):
            _print(finding, is_first=count == 0, as_json=as_json)
            count += 1
            left += finding.repair is None
    if as_json:
        click.echo("\n]" if count else "[]")
    print_message(_summary(count, left, repair=repair))
    return 1 if left else 0


def _print(finding: Finding, *, is_first: bool, as_json: bool) -> None:
    """Print a finding at once, without waiting for the others: there may be thousands."""
    if as_json:
        click.echo(f"{'[' if is_first else ','}\n  {msgspec.json.encode(finding).decode()}", nl=False)
        return
    click.echo(f"{finding.part}  {printable(finding.name)}: {printable(finding.problem)}")
    if finding.repair:
        click.echo(f"  repaired: {printable(finding.repair)}")


def _summary(count: int, left: int, *, repair: bool) -> str:
    if not count:
        return "no damage found"
    result = (
        f"{count - left} of {counted(count, 'damaged item')} repaired" if repair else counted(count, "damaged item")
    )
    return result if repair or not left else f"{result}; --repair repairs them where possible"


@contextmanager
def _progress() -> Iterator[BeginCheck]:
    """Show progress bars on a terminal; print nothing elsewhere."""
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
