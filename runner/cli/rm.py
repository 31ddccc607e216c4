"""``proj rm``: moves runs to the trash, or removes them permanently."""

import click

from runner.base.plurals import counted
from runner.base.tags import PARENT_TAG
from runner.cli import completions
from runner.cli.output import local_time, open_store, read_store
from runner.cli.run_search import find_records, read_search, searches_runs
from runner.cli.text import print_message, printable
from runner.cli.trash import LITTLE_SPACE, confirm, refuse_registered, remove_permanently
from runner.errors import InvalidValueError, StoreError
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.disk import free_bytes
from runner.store.entities import LifecycleStage
from runner.store.records import format_time
from runner.store.removal import refuse_live
from runner.store.run_selection import resolve
from runner.store.trash import delete_together
from runner.sync.sync_state import nested_runs


@click.command("rm")
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=completions.runs)
@searches_runs
@click.option("--force", is_flag=True, help="Also delete runs whose files registered versions need.")
@click.option("--permanently", is_flag=True, help="Remove at once, not to the trash. This can't be undone.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
def rm(names: tuple[str, ...], force: bool, permanently: bool, yes: bool, **values: object) -> None:
    r"""Move runs and the runs nested in them to the trash; `proj restore` brings them back.

    The trash is MLflow's lifecycle stage `deleted`. `proj trash empty` removes what is in it and frees the space.

    \b
    Examples:
      proj rm 7f3a09c1
      proj rm --filter "metrics.rmse > 0.9"
      proj rm --status FAILED --older-than 30d --yes
      proj rm 7f3a09c1 --permanently
    """
    search = read_search(values, named=bool(names))
    with read_store() as (database, home):
        found = (
            [record.run_id or "" for record in find_records(LocalReader(database, home), search)] if not names else []
        )
        chosen = _with_nested(database, [resolve(database, name) for name in names] or found)
        if not chosen:
            return
        _check(database, home, chosen, permanently=permanently)
        refuse_registered(database, chosen, force=force)
        if not yes:
            how = "Remove {} permanently, with code, artifacts and logs?" if permanently else "Move {} to the trash?"
            confirm([_line(database, run_id, chosen) for run_id in chosen], how.format(counted(len(chosen), "run")))
    if permanently:
        remove_permanently(home, chosen)
        return
    with open_store() as (database, _):
        delete_together(database, chosen)
    for run_id in chosen:
        click.echo(run_id)
    print_message(f"{counted(len(chosen), 'run')} moved to the trash")
    print_message("  hint: `proj restore RUN` brings a run back, `proj trash empty` frees the space")


def _with_nested(database: Database, run_ids: list[str]) -> list[str]:
    """Return runs with all runs nested in them, parents first."""
    return list(dict.fromkeys(one for run_id in run_ids for one in nested_runs(database, run_id)))


def _check(database: Database, home: Home, run_ids: list[str], *, permanently: bool) -> None:
    """Refuse runs that can't be removed.

    Raises:
        InvalidValueError: a run is still running, or is in the trash already.
        StoreError: the disk is full, so that nothing can be recorded.
    """
    for run_id in run_ids:
        refuse_live(database, run_id)
        if not permanently and runs.get(database, run_id).lifecycle_stage is LifecycleStage.DELETED:
            hint = "--permanently removes it, `proj restore` brings it back."
            raise InvalidValueError(f"The run {run_id[:8]} is in the trash already", hint=hint)
    if not permanently and free_bytes(home.root) < LITTLE_SPACE:
        raise StoreError(
            "The disk is full, and runs in the trash keep their files",
            context=str(home.root),
            hint="`proj rm --permanently` and `proj trash empty` free space.",
        )


def _line(database: Database, run_id: str, chosen: list[str]) -> str:
    run = runs.get(database, run_id)
    parent = run.tags.get(PARENT_TAG)
    nested = f"  nested in {parent[:8]}" if parent in chosen and parent else ""
    started = local_time(format_time(run.started_at))
    return f"{run_id[:8]}  {printable(run.name)}  {run.status.value}  {started}{nested}"
