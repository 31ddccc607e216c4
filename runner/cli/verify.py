"""``proj verify``: checks all data in proj's home and repairs it, or checks a bundle."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from runner.base.findings import Finding, Progress
from runner.base.plurals import counted
from runner.bundles.signing import Signature
from runner.cli import completions
from runner.cli.bundle_use import (
    ALLOWED_SIGNERS,
    SIGNED,
    describe_signature,
    find_bundle,
    opened_bundle,
    require_signature,
)
from runner.cli.home import enter_home
from runner.cli.text import print_lines, print_message, printable
from runner.errors import UsageError
from runner.verification.checks import BeginCheck, verify_home

_SHOWN = 10


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was found to be sound: the JSON of ``proj verify FILE --json``."""

    run_id: str
    tree: str
    files: int
    signature: Signature
    addresses: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@click.command("verify")
@click.argument("bundle", metavar="[FILE.zip]", required=False, shell_complete=completions.files)
@click.option("--repair", is_flag=True, help="Repair damage where possible; the only copy of data is never removed.")
@ALLOWED_SIGNERS
@SIGNED
@click.option("--json", "as_json", is_flag=True, help="Print the damage as a JSON list, or what a bundle is.")
def verify(bundle: str | None, repair: bool, as_json: bool, signed: bool, allowed_signers: Path | None = None) -> int:
    r"""Check all data in proj's home: database, snapshots, locks, environments, artifacts. Or check a bundle.

    The exit code is 1 if damage remains. Of a bundle every digest, the code and the signature are checked; nothing of
    it is executed or stored.

    \b
    Examples:
      proj verify --repair
      proj verify run.zip
    """
    if bundle is not None and repair:
        raise UsageError("A bundle can't be repaired", hint="Ask its sender for another one.")
    if bundle is not None:
        return _verify_bundle(bundle, allowed_signers, signed=signed, as_json=as_json)
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


def _verify_bundle(name: str, signers: Path | None, *, signed: bool, as_json: bool) -> int:
    path = find_bundle(name)
    if path is None:
        raise UsageError(f"'{printable(name)}' is no bundle of a run", hint="`proj export RUN -o FILE.zip` writes one.")
    with opened_bundle(path) as bundle:
        signature = require_signature(bundle, signers, needed=signed)
    found = VerifiedBundle(
        run_id=bundle.manifest.run_id,
        tree=bundle.manifest.tree,
        files=len(bundle.manifest.files),
        signature=signature,
        addresses=bundle.addresses,
        left_out=bundle.manifest.left_out,
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return 0
    print_lines(f"run {found.run_id}: {found.files} files are as the manifest says; the code is {found.tree}")
    print_lines(describe_signature(signature))
    for address in found.addresses:
        print_message(f"! the lock names an address: {address}")
    for one in found.left_out[:_SHOWN]:
        print_message(f"  not included: {one}")
    return 0


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
