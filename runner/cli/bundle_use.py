"""Opens bundles for the commands that take one: checks, signature, import."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from runner.base.lazy import LazyModule
from runner.cli.text import print_message, printable
from runner.errors import BundleError, UsageError
from runner.model import Report, RunRecord
from runner.plan import Plan
from runner.plan_record import describe_plan
from runner.settings import Home
from runner.store.database import Database

if TYPE_CHECKING:
    from runner.bundles import reading, signing, taking
else:
    reading = LazyModule("runner.bundles.reading")
    signing = LazyModule("runner.bundles.signing")
    taking = LazyModule("runner.bundles.taking")

ALLOW_ADDRESSES = click.option(
    "--allow-addresses", is_flag=True, help="Accept a bundle whose lock names addresses outside a package index."
)
ALLOWED_SIGNERS = click.option(
    "--allowed-signers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Whose SSH keys may sign bundles. [default: git's gpg.ssh.allowedSignersFile]",
)
SIGNED = click.option("--signed", is_flag=True, help="Refuse a bundle that no known signer has signed.")


def find_bundle(text: str) -> Path | None:
    """Return the path of a bundle file that an argument names; None if it is something else, such as a run.

    Raises:
        BundleError: it is the name of a zip, and there is no such file, or it is no bundle.
    """
    path = Path(text)
    if path.is_file() and reading.is_bundle(path):
        return path
    if not text.lower().endswith(".zip"):
        return None  # a file may have the name of a run
    if not path.is_file():
        raise BundleError(f"There is no file '{printable(text)}'")
    raise BundleError(f"{printable(text)} is no bundle of a run", hint="`proj export RUN -o FILE.zip` writes one.")


@contextmanager
def opened_bundle(path: Path, home: Home | None = None) -> "Iterator[reading.CheckedBundle]":
    """Yield a bundle that was unpacked and checked; the files are removed after the block.

    They lie in the home if there is one, so that there is room where the run is taken to.
    """
    folder = None if home is None else home.root
    with TemporaryDirectory(prefix="proj-", dir=folder) as temporary:
        yield reading.open_bundle(path, Path(temporary))


def require_allowed(bundle: "reading.CheckedBundle", *, addresses: bool) -> None:
    """Refuse a lock with addresses, unless the user accepts them.

    Raises:
        BundleError: the lock names addresses.
    """
    if bundle.addresses and not addresses:
        raise BundleError(
            f"{bundle.name} is refused: its lock names addresses from which packages would be downloaded",
            context="\n".join(map(printable, bundle.addresses[:20])),
            hint="--allow-addresses accepts them.",
        )


def require_signature(bundle: "reading.CheckedBundle", signers: Path | None, *, needed: bool) -> "signing.Signature":
    """Check the signature of a bundle, and return what it says.

    Raises:
        BundleError: it is bad, or ``needed`` and not that of a known signer.
    """
    found = signing.check_signature(bundle.manifest_bytes, bundle.signature, bundle.signature_bytes, signers)
    if found.state is signing.SignatureState.BAD:
        raise BundleError(f"{bundle.name} is refused: its signature is bad", context=found.detail)
    if needed and found.state is not signing.SignatureState.GOOD:
        hint = "--allowed-signers FILE, or git's gpg.ssh.allowedSignersFile, names the keys that you know."
        raise BundleError(f"{bundle.name} is refused: {describe_signature(found)}", hint=hint)
    return found


def describe_signature(found: "signing.Signature") -> str:
    """Return what a signature says, for people."""
    if found.state is signing.SignatureState.GOOD:
        return f"signed by {found.signer or 'nobody'} (key {found.key})"
    if found.state is signing.SignatureState.UNKNOWN_SIGNER:
        name = f" that calls itself {found.signer}" if found.signer else ""
        return f"signed by a key that you have not named as known{name}: {found.key}"
    return str(found.state.value)


def take(bundle: "reading.CheckedBundle", home: Home, report: Report) -> "taking.Imported":
    """Take a bundle over into the store of a home."""
    with closing(Database.open(home.database)) as database:
        return taking.take_bundle(bundle, taking.Store(database=database, home=home, report=report))


def confirmation(bundle: "reading.CheckedBundle", signature: str, *, yes: bool) -> Callable[[Plan], None]:
    """Return a function that shows what a bundle would run, and asks whether it may.

    Nothing is asked with ``yes``. The function raises `UsageError` if there is no terminal to ask on, and
    `click.Abort` if the answer is no.
    """

    def approve(plan: Plan) -> None:
        for line in plan_lines(describe_plan(plan), bundle, signature):
            print_message(line)
        if yes:
            return
        if not sys.stdin.isatty():
            hint = "--yes runs it without asking."
            raise UsageError("A bundle is somebody's program; it is run only when you agree", hint=hint)
        click.confirm("Run this program?", abort=True, err=True)

    return approve


def plan_lines(plan: RunRecord, bundle: "reading.CheckedBundle", signature: str) -> Iterator[str]:
    """Yield what a bundle would run, for people."""
    environment = plan.environment
    packages = "the bundle" if bundle.manifest.has("packages") else "your package index"
    yield f"{bundle.name}: run {bundle.manifest.run_id[:8]}, {signature}"
    yield f"  project:     {plan.project}, entry point {plan.entry_point}"
    yield f"  command:     {plan.command}"
    for one in plan.parameters:
        yield f"  parameter:   {one.name} = {one.value}"
    if environment is not None:
        built = "what is installed here" if environment.manager == "local" else f"packages from {packages}"
        yield f"  environment: {environment.manager}, Python {environment.python}, {built}"
        for option in environment.engine_options:
            yield f"  container:   -A {option}"
    for address in bundle.addresses:
        yield f"  downloads:   {address}"
    for name, value in sorted((bundle.record.machine.variables if bundle.record.machine else {}).items()):
        yield f"  variable:    {name}={value}"
