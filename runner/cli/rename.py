"""``proj rename``: gives a run another name."""

import click

from runner.base.masking import Masker
from runner.cli import completions
from runner.cli.options import check_text
from runner.cli.output import open_store
from runner.cli.tag import report_change
from runner.cli.text import print_message, printable
from runner.errors import UsageError
from runner.store import runs
from runner.store.run_selection import resolve


@click.command("rename")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("name", metavar="NAME")
def rename(run: str, name: str) -> None:
    r"""Give RUN the name NAME; its id stays.

    \b
    Examples:
      proj rename latest baseline
      proj rename 7f3a09c1 "larger forest"
    """
    if not check_text("tag", "name", name).strip():
        raise UsageError("The name of a run can't be empty")
    with open_store() as (database, _):
        run_id = resolve(database, run, print_message)
        before = runs.get(database, run_id).name
        runs.update(database, run_id, name=Masker().text(name))
        report_change(database, run_id, f"its name was '{printable(before)}'")
