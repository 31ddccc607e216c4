"""``proj checkout``: the exact code of a run, restored."""

from pathlib import Path

import click

from runner.cli.text import say, show_event
from runner.settings import open_home
from runner.source.restoring import checkout as restore
from runner.store import runs
from runner.store.database import Database


@click.command("checkout")
@click.argument("run_id", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def checkout(run_id: str, folder: Path) -> None:
    """Restore the exact code of RUN, uncommitted files too, into the new or empty folder DIR."""
    home = open_home()
    database = Database.open(home.database)
    whole = runs.resolve(database, run_id)
    restore(whole, folder, home, show_event)
    say(f"the code of run {whole[:8]} is in {folder}")
