"""``proj tag``: shows, sets and removes the tags of a run."""

from collections.abc import Mapping

import click
import msgspec

from runner.base.masking import Masker
from runner.cli import completions
from runner.cli.options import check_tag_names, read_tags
from runner.cli.output import open_store, read_store
from runner.cli.text import print_lines, print_message, printable
from runner.errors import NotFoundError
from runner.model import Parameter
from runner.store import runs, values
from runner.store.database import Database
from runner.store.run_selection import resolve
from runner.sync import sync_state


@click.command("tag")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("assignments", nargs=-1, metavar="[NAME[=VALUE]]...")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="Remove a tag; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print all tags of the run as JSON.")
def tag(run: str, assignments: tuple[str, ...], removed: tuple[str, ...], as_json: bool) -> None:
    r"""Set or remove tags of RUN; without any, print its tags.

    A tag without a value gets the value `true`. A run can be selected by its tag: `proj show @best`.

    \b
    Examples:
      proj tag latest best stage=review
      proj tag latest --remove stage
      proj tag latest
    """
    given = read_tags(assignments)
    if not (given or removed):
        with read_store() as (database, _):
            _print(runs.get(database, resolve(database, run, print_message)).tags, as_json=as_json)
        return
    check_tag_names(removed)
    with open_store() as (database, _):
        run_id = resolve(database, run, print_message)
        with database.transaction():
            known = runs.get(database, run_id).tags
            absent = [name for name in removed if name not in known]
            if absent:
                hint = "`proj tag RUN` lists its tags."
                raise NotFoundError(f"The run {run_id[:8]} has no tag '{printable(absent[0])}'", hint=hint)
            for name in dict.fromkeys(removed):
                values.delete_tag(database, run_id, name)
            # A value that looks like a credential is masked, as in the record of a run.
            masked = {name: Masker().value(Parameter(name=name, value=value)) for name, value in given.items()}
            values.set_tags(database, run_id, masked)
        if as_json:
            _print(runs.get(database, run_id).tags, as_json=True)
        report_change(database, run_id, "tags changed")


def report_change(database: Database, run_id: str, what: str) -> None:
    """Print that a run was changed, and how to send the change to the servers that have a copy of the run."""
    print_message(f"run {run_id[:8]} ({printable(runs.get(database, run_id).name)}): {what}")
    for copy in sync_state.remote_runs_of(database, run_id):
        server = printable(copy.server)
        print_message(f"  hint: `proj push {run_id[:8]} --to {server}` sends the change to {server}")


def _print(tags: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(dict(sorted(tags.items()))), indent=2))
        return
    for name, value in sorted(tags.items()):
        print_lines(f"{printable(name)} = {printable(value)}")
