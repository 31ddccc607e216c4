"""``proj diff``: in what the code of a dirty run differs from its commit."""

import click

from runner.cli.text import say
from runner.settings import open_home
from runner.source.restoring import difference
from runner.store import runs
from runner.store.database import Database


@click.command("diff")
@click.argument("run_id", metavar="RUN")
def diff(run_id: str) -> None:
    """Print in what the code of RUN differs from its commit, as a patch that git applies."""
    home = open_home()
    database = Database.open(home.database)
    whole = runs.resolve(database, run_id)
    patch = difference(whole, home)
    if patch:
        click.get_binary_stream("stdout").write(patch)
    else:
        say(f"run {whole[:8]} ran the code of its commit")
