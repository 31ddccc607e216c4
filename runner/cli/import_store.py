"""``proj import``: copies a bundle, an ``mlruns`` folder or an MLflow database into the local store."""

from contextlib import closing
from pathlib import Path

import click
import msgspec

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.bundle_use import (
    ALLOW_ADDRESSES,
    ALLOWED_SIGNERS,
    SIGNED,
    describe_signature,
    find_bundle,
    opened_bundle,
    require_allowed,
    require_signature,
    take,
)
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.output import open_store, size
from runner.cli.progress_line import showing_progress
from runner.cli.text import print_lines, print_message, printable, show_event
from runner.importing.artifact_locations import PROXIED
from runner.importing.opening import open_foreign
from runner.importing.summary import Count, ImportSummary, Summary
from runner.importing.transfer import import_store
from runner.store.staging import collect_everywhere

_OWN = "not changed, because they were not imported"
_TAKEN = "left out, because other versions have their numbers"


@click.command("import")
@click.argument("source", metavar="FILE.zip|DIR|sqlite:///PATH", shell_complete=completions.files)
@click.option("--experiment", "wanted", multiple=True, metavar="NAME", help="Import only this experiment; repeatable.")
@click.option(
    "--artifacts-destination",
    "proxied",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the artifacts that the database's server stored. [default: mlartifacts beside it]",
)
@ALLOW_ADDRESSES
@ALLOWED_SIGNERS
@SIGNED
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def import_command(
    source: str, wanted: tuple[str, ...], proxied: Path | None, as_json: bool, **about: bool | Path | None
) -> int:
    r"""Import the run of a bundle, or an mlruns folder or an MLflow database with all runs, artifacts and models.

    The source is not changed, and nothing of it is executed. Importing again adds only what is new. The exit code is 1
    if something was left out because it can't be read. The last three options are for bundles.

    \b
    Examples:
      proj import run.zip
      proj import mlruns
    """
    bundle = find_bundle(source)
    if bundle is not None:
        return _import_bundle(bundle, as_json=as_json, **about)
    counter = ImportSummary(show_event)
    with showing_progress():
        foreign = open_foreign(source, counter.report, None if proxied is None else proxied.resolve())
    with closing(foreign), open_store() as (database, home), showing_progress():
        collect_everywhere(home)
        summary = import_store(foreign, database, home, counter, wanted)
    return print_summary(summary, as_json=as_json)


def _import_bundle(path: Path, *, as_json: bool, **about: bool | Path | None) -> int:
    home = enter_home(writing=True)
    warn_of_lost_store(home)
    signers = about["allowed_signers"]
    with opened_bundle(path, home) as bundle:
        require_allowed(bundle, addresses=bool(about["allow_addresses"]))
        known = signers if isinstance(signers, Path) else None
        signature = require_signature(bundle, known, needed=bool(about["signed"]))
        done = take(bundle, home, show_event)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
        return 0
    print_lines(f"run {done.run_id}: {done.change.value}, {describe_signature(signature)}")
    print_lines(f"  {done.points} points of metrics, {done.files} files, experiment {printable(done.experiment)}")
    print_message(f"  next: proj reproduce {done.run_id[:8]}")
    return 0


def print_summary(summary: Summary, *, as_json: bool) -> int:
    """Print the summary of an import, and return the exit code."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2))
    else:
        _print_counts(summary)
    return 0 if summary.is_complete else 1


def _print_counts(summary: Summary) -> None:
    print_lines(f"from {printable(summary.source)}")
    rows = (
        ("experiments", summary.experiments),
        ("runs", summary.runs),
        ("logged models", summary.models),
        ("registered models", summary.registered_models),
        ("model versions", summary.model_versions),
    )
    for title, count in rows:
        if count.total:
            own = _TAKEN if count is summary.model_versions else _OWN
            print_lines(f"  {title}: {_described(count, own)}")
    print_lines(f"  {counted(summary.points, 'new point')} of metrics")
    copied = summary.artifacts
    print_lines(f"  {counted(copied.files, 'new artifact')} ({size(copied.size)})")
    if summary.elsewhere:
        owners, first = len(summary.elsewhere), printable(summary.elsewhere[0])
        print_lines(f"  artifacts of runs and models ({owners:,}) are not on this machine and were not copied: {first}")
        if any(uri.startswith(f"{PROXIED}:") for uri in summary.elsewhere):
            click.echo("  --artifacts-destination DIR sets the folder in which their server stores them")
    if summary.is_empty:
        click.echo("  everything had been imported before")


def _described(count: Count, own: str) -> str:
    labels = (
        (count.added, "added"),
        (count.updated, "updated"),
        (count.unchanged, "unchanged"),
        (count.own, own),
        (count.failed, "left out"),
    )
    return ", ".join(f"{number} {label}" for number, label in labels if number)
