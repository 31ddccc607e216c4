"""``proj diff``: in what the code of a dirty run differs from its commit."""

import click

from runner.cli import completions
from runner.cli.code import require_code
from runner.cli.output import read_store
from runner.cli.text import say
from runner.source.restoring import difference
from runner.store import runs


@click.command("diff")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
def diff(run: str) -> None:
    """Print in what the code of RUN differs from its commit, as a patch that git applies."""
    with read_store() as (database, home):
        whole = runs.resolve(database, run)
        require_code(database, home, whole)
    patch = difference(whole, home)
    if patch:
        click.echo(patch, nl=False)
    else:
        say(f"run {whole[:8]} ran the code of its commit")
