"""``proj restore``: brings runs back from the trash."""

import click

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.output import open_store
from runner.cli.text import print_message
from runner.store.trash import deleted_with, resolve_deleted, restore_together


@click.command("restore")
@click.argument("names", nargs=-1, required=True, metavar="RUN...", shell_complete=completions.deleted_runs)
def restore(names: tuple[str, ...]) -> None:
    r"""Restore runs from the trash, with the nested runs that were deleted together with them.

    RUN is an id, the beginning of an id, or a name; `proj trash list` lists them. Runs that an MLflow client deleted
    are in the trash, too.

    \b
    Examples:
      proj restore 7f3a09c1
      proj restore baseline
    """
    with open_store() as (database, _):
        found = [resolve_deleted(database, name) for name in names]
        run_ids = list(dict.fromkeys(one.run_id for run in found for one in deleted_with(database, run)))
        restore_together(database, run_ids)
    for run_id in run_ids:
        click.echo(run_id)
    print_message(f"{counted(len(run_ids), 'run')} restored")
