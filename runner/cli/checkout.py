"""``proj checkout``: restores the exact code of a run."""

from pathlib import Path

import click

from runner.cli import completions
from runner.cli.code import require_code
from runner.cli.output import read_store
from runner.cli.text import print_message, show_event
from runner.source.restoring import checkout as restore
from runner.store.run_selection import resolve


@click.command("checkout")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def checkout(run: str, folder: Path) -> None:
    """Restore the exact code of RUN, including uncommitted files, into the new or empty folder DIR.

    \b
    Examples:
      proj checkout 7f3a old-code
    """  # noqa: D301  # click reads the control character
    with read_store() as (database, home):
        run_id = resolve(database, run, print_message)
        require_code(database, home, run_id)
    tree = restore(run_id, folder, home, show_event)
    print_message(f"the code of run {run_id[:8]} is in {folder} (tree {tree[:12]})")
