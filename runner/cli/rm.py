"""``proj rm``: removes runs permanently."""

import sys
import time
from collections.abc import Sequence
from contextlib import closing

import click

from runner.base.files import remove_tree
from runner.cli import completions
from runner.cli.options import read_age
from runner.cli.output import local_time, read_store, size
from runner.cli.text import print_message, printable
from runner.errors import SnapshotError, UsageError
from runner.executors import remove_orphaned_containers
from runner.settings import Home
from runner.source.cleaning import collect_garbage
from runner.source.pool import empty_pool
from runner.source.snapshot_store import release_snapshot
from runner.store import lost_runs, runs
from runner.store.database import Database
from runner.store.disk import free_bytes
from runner.store.records import format_time
from runner.store.removal import refuse_live, remove_files, remove_run
from runner.store.run_selection import resolve
from runner.store.staging import collect_everywhere

_SHOWN = 20
_LITTLE_ROOM = 1 << 20
"""Free bytes below which files are removed before anything is written."""


@click.command("rm")
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=completions.runs)
@click.option("--older-than", "age", metavar="AGE", help="Remove runs that ended longer ago: 12h, 30d, 8w.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
def rm(names: tuple[str, ...], age: str | None, yes: bool) -> None:
    """Remove runs with their code, artifacts, logs and folders. This can't be undone."""
    if not names and age is None:
        raise UsageError("No runs to remove are given", hint="Give runs, or --older-than 30d.")
    before = None if age is None else int((time.time() - read_age(age)) * 1000)
    with read_store() as (database, home):
        chosen = [resolve(database, name) for name in names]
        chosen += runs.older_than(database, before) if before is not None else []
        chosen = list(dict.fromkeys(chosen))
        for run_id in chosen:
            refuse_live(database, run_id)
        if not chosen:
            print_message("no runs to remove")
            return
        if not yes:
            _ask(database, chosen)
        freed = _make_room(database, home, chosen) if free_bytes(home.root) < _LITTLE_ROOM else 0
    remove_orphaned_containers(home)
    with closing(Database.open(home.database)) as database:
        lost_runs.mark_lost(database)
        for run_id in chosen:
            release_snapshot(run_id, home)
            freed += remove_run(database, run_id, home)
            click.echo(run_id)
    _tidy_up(home)
    print_message(f"{len(chosen)} {_runs(chosen)} removed, {size(freed)} freed")


def _make_room(database: Database, home: Home, chosen: Sequence[str]) -> int:
    """Remove the files of the runs and of caches before anything is written to the full disk.

    The rows of the runs are removed later; if this is interrupted, the same command can be repeated.
    """
    freed = sum(remove_files(database, run_id, home) for run_id in chosen)
    empty_pool(home)
    remove_tree(home.root / "cache" / "code")
    remove_tree(home.reserve)
    return freed


def _tidy_up(home: Home) -> None:
    """Free the data that no run needs any more; git needs some free space for that."""
    collect_everywhere(home)
    try:
        collect_garbage(home)
    except (SnapshotError, OSError) as error:
        print_message(f"! The space of removed snapshots could not be freed: {error}", fg="yellow")
        print_message("  hint: the next `proj rm` tries again; git needs some free space for it")


def _ask(database: Database, chosen: Sequence[str]) -> None:
    for run_id in chosen[:_SHOWN]:
        run = runs.get(database, run_id)
        print_message(
            f"{run_id[:8]}  {printable(run.name)}  {run.status.value}  {local_time(format_time(run.started_at))}"
        )
    if len(chosen) > _SHOWN:
        print_message(f"… and {len(chosen) - _SHOWN} more")
    try:
        click.confirm(f"Remove {len(chosen)} {_runs(chosen)} with code, artifacts and logs?", abort=True, err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        print_message("")
        raise UsageError("Nothing is removed without confirmation", hint="-y removes without asking.") from error


def _runs(chosen: Sequence[str]) -> str:
    return "run" if len(chosen) == 1 else "runs"
