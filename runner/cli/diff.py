"""``proj diff``: prints how the code of a dirty run differs from its commit."""

import click

from runner.cli import completions
from runner.cli.code import require_code
from runner.cli.output import read_store
from runner.cli.text import print_message
from runner.source.restoring import difference
from runner.store.run_selection import resolve


@click.command("diff")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
def diff(run: str) -> None:
    """Print how the code of RUN differs from its commit, as a patch for `git apply`.

    \b
    Examples:
      proj diff latest
    """  # noqa: D301  # click reads the control character
    with read_store() as (database, home):
        whole = resolve(database, run, print_message)
        require_code(database, home, whole)
    patch = difference(whole, home)
    if patch:
        click.echo(patch, nl=False)
    else:
        print_message(f"run {whole[:8]} ran exactly the code of its commit")
