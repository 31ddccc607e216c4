"""``proj stop``: ends runs that are running."""

import time
from signal import Signals

import click

from runner.base.tags import PARENT_TAG
from runner.cli import completions
from runner.cli.output import read_store
from runner.cli.text import print_message
from runner.errors import ExecutionError
from runner.store import lost_runs, runs
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.owner_signals import signal_owner
from runner.store.run_selection import resolve

_PAUSE = 0.1
"""Seconds between two looks at a run that is being stopped."""


@click.command("stop")
@click.argument("references", nargs=-1, required=True, metavar="RUN...", shell_complete=completions.runs)
@click.option("--no-wait", is_flag=True, help="Do not wait until the runs have ended.")
def stop(references: tuple[str, ...], no_wait: bool) -> None:
    """Stop RUNs as Ctrl-C does: the command gets SIGTERM, and SIGKILL after 5 seconds.

    What the command wrote until then is collected, and the run becomes KILLED. `proj run --resume RUN` continues it.
    A run that has ended already is left as it is. Example: `proj stop latest`.
    """
    with read_store() as (database, _):
        chosen = [runs.get(database, resolve(database, one, print_message)) for one in references]
        stopping = [run for run in chosen if _stop(database, run)]
        for run in () if no_wait else stopping:
            while not lost_runs.is_over(database, run.run_id):
                time.sleep(_PAUSE)
            status = runs.get(database, run.run_id).status.value
            print_message(f"run {run.run_id[:8]} ({run.name}) {status}")


def _stop(database: Database, run: Run) -> bool:
    """Send the signal to the owner of a run; return False if the run has ended.

    Raises:
        ExecutionError: the process of the run can't get a signal from here.
    """
    short = run.run_id[:8]
    if run.status.is_over:
        print_message(f"run {short} has ended already: {run.status.value}")
        return False
    if run.owner is None:
        parent = run.tags.get(PARENT_TAG)
        hint = f"Stop its parent: proj stop {parent[:8]}" if parent else "Stop the program that logs to it."
        raise ExecutionError(f"run {short} was not started by `proj run`, so its process is unknown", hint=hint)
    try:
        is_sent = signal_owner(run.owner, Signals.SIGTERM)
    except PermissionError as error:
        raise ExecutionError(f"run {short} belongs to another user", context=f"process {run.owner.pid}") from error
    if not is_sent and not lost_runs.is_over(database, run.run_id):
        where = f"process {run.owner.pid} on {run.owner.host}"
        hint = f"Stop it there: ssh {run.owner.host} proj stop {short}"
        raise ExecutionError(f"run {short} runs on another machine or in another container", context=where, hint=hint)
    return True
