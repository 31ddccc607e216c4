"""``proj ps``: lists the runs that are running."""

from datetime import datetime, timezone

import click
import msgspec

from runner.base.durations import format_duration
from runner.cli.output import local_time, read_store
from runner.cli.tables import print_table
from runner.cli.text import print_message
from runner.model import RunDetails
from runner.store import lost_runs, runs
from runner.store.entities import ProcessIdentity, Run
from runner.store.records import read_record

_TITLES = ("run", "name", "entry point", "state", "started", "running for", "process")


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="Print the records as a JSON list.")
def ps(as_json: bool) -> None:
    """List the runs that are running, the newest first, with the process that owns each.

    Example: `proj run --detach .`, then `proj ps`, and `proj stop RUN` to end it.
    """
    with read_store() as (database, home):
        found = [(runs.get(database, run_id), owner) for run_id, owner in lost_runs.live_runs(database)]
        if as_json:
            records = [read_record(database, run.run_id, home) for run, _ in found]
            click.echo(msgspec.json.format(msgspec.json.encode(records), indent=2))
            return
    if not found:
        print_message("No run is running.")
        return
    print_table(_TITLES, [_row(run, owner) for run, owner in found])


def _row(run: Run, owner: ProcessIdentity) -> tuple[str, ...]:
    started = datetime.fromtimestamp(run.started_at / 1000, tz=timezone.utc)
    seconds = (datetime.now(timezone.utc) - started).total_seconds()
    return (
        run.run_id[:8],
        run.name,
        run.details.entry_point or "",
        _state(run.details),
        local_time(started.isoformat()),
        format_duration(max(0.0, seconds)),
        f"{owner.pid} on {owner.host}",
    )


def _state(details: RunDetails) -> str:
    """Return what proj is doing for a run."""
    if details.command_status is not None:
        return "collecting"
    return "running" if details.addresses else "preparing"
