"""``proj trash``: lists the runs in the trash and removes them permanently."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing

import click
import msgspec

from runner.base.files import remove_tree
from runner.base.plurals import counted
from runner.cli.groups import CommandGroup
from runner.cli.options import read_age
from runner.cli.output import local_time, read_store, size
from runner.cli.tables import print_table
from runner.cli.text import print_important, print_message, print_warning, printable
from runner.errors import InvalidValueError, SnapshotError, UsageError
from runner.executors import remove_orphaned_containers
from runner.settings import Home
from runner.source.cleaning import collect_garbage
from runner.source.pool import empty_pool
from runner.source.snapshot_store import release_snapshot
from runner.store import lost_runs
from runner.store.database import Database
from runner.store.disk import free_bytes
from runner.store.records import format_time
from runner.store.removal import remove_files, remove_run
from runner.store.staging import collect_everywhere
from runner.store.trash import DeletedRun, deleted_before, deleted_runs, resting_versions

_SHOWN = 20
LITTLE_SPACE = 1 << 20
"""Free bytes below which files are removed before anything is written."""


@click.group("trash", cls=CommandGroup)
def trash() -> None:
    """List the runs that `proj rm` or an MLflow client deleted, and remove them permanently."""


@trash.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_trash(as_json: bool) -> None:
    r"""List the runs in the trash, the one that was deleted last first.

    \b
    Example:
      proj trash list
    """
    with read_store() as (database, _):
        found = deleted_runs(database)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_row(run) for run in found]), indent=2))
        return
    if not found:
        print_message("the trash is empty")
        return
    rows = [
        (run.run_id[:8], printable(run.name), printable(run.experiment), run.status, _when(run), _state(run))
        for run in found
    ]
    print_table(("run", "name", "experiment", "status", "deleted", "state"), rows)


@trash.command("empty")
@click.option("--older-than", "age", metavar="AGE", help="Only runs that were deleted longer ago: 12h, 30d, 8w.")
@click.option("--force", is_flag=True, help="Also remove runs whose files registered versions need.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
def empty(age: str | None, force: bool, yes: bool) -> None:
    r"""Remove the runs in the trash with their code, artifacts, logs and folders. This can't be undone.

    \b
    Examples:
      proj trash empty
      proj trash empty --older-than 30d --yes
    """
    before = None if age is None else int((time.time() - read_age(age)) * 1000)
    with read_store() as (database, home):
        found = deleted_runs(database) if before is None else deleted_before(database, before)
        if not found:
            print_message("the trash is empty" if before is None else "the trash has no runs that old")
            return
        chosen = [run.run_id for run in found]
        refuse_registered(database, chosen, force=force)
        if not yes:
            confirm([_line(run) for run in found], f"Remove {counted(len(found), 'run')} permanently?")
    remove_permanently(home, chosen)


def refuse_registered(database: Database, run_ids: Iterable[str], *, force: bool) -> None:
    """Refuse runs whose files registered model versions need; with ``force`` only warn.

    Raises:
        InvalidValueError: there is such a run, and ``force`` is not set.
    """
    resting = resting_versions(database, run_ids)
    if not resting:
        return
    lines = [f"{run_id[:8]}: {printable(', '.join(names))}" for run_id, names in resting.items()]
    shown = "\n".join([*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else lines)
    what = f"Registered model versions need the files of {counted(len(resting), 'run')}"
    if not force:
        raise InvalidValueError(
            what, context=shown, hint="Remove the versions (`proj models delete`), or give --force to delete anyway."
        )
    print_warning(f"{what}:\n{shown}")


def confirm(lines: Sequence[str], question: str) -> None:
    """Ask the user before runs are removed; each line describes a run.

    Raises:
        UsageError: nobody can answer.
    """
    for line in lines[:_SHOWN]:
        print_important(line)
    if len(lines) > _SHOWN:
        print_important(f"… and {len(lines) - _SHOWN} more")
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        print_important("")
        raise UsageError("Nothing is removed without confirmation", hint="-y removes without asking.") from error


def remove_permanently(home: Home, chosen: Sequence[str]) -> None:
    """Remove runs with everything that proj stores of them, print their ids, and free the space."""
    freed = 0
    if free_bytes(home.root) < LITTLE_SPACE:
        with closing(Database.open_to_read(home.database)) as database:
            freed = _free_space(database, home, chosen)
    remove_orphaned_containers(home)
    with closing(Database.open(home.database)) as database:
        lost_runs.mark_lost(database)
        for run_id in chosen:
            release_snapshot(run_id, home)
            freed += remove_run(database, run_id, home)
            click.echo(run_id)
    _tidy_up(home)
    print_message(f"{counted(len(chosen), 'run')} removed, {size(freed)} freed")


def _free_space(database: Database, home: Home, chosen: Sequence[str]) -> int:
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
        print_warning(
            f"The space of removed snapshots could not be freed: {error}",
            "the next `proj trash empty` tries again; git needs some free space for it",
        )


def _row(run: DeletedRun) -> dict[str, object]:
    return {
        **{name: getattr(run, name) for name in ("run_id", "name", "experiment", "status")},
        "started_at": format_time(run.started_at),
        "deleted_at": format_time(run.deleted_at),
        "can_be_restored": not run.is_removed,
    }


def _line(run: DeletedRun) -> str:
    return f"{run.run_id[:8]}  {printable(run.name)}  {run.status}  deleted {_when(run)}"


def _when(run: DeletedRun) -> str:
    return local_time(format_time(run.deleted_at))


def _state(run: DeletedRun) -> str:
    return "partly removed" if run.is_removed else ""
