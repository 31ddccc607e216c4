"""``proj link``: links runs of uncommitted changes to the later commits of the same code."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from runner.base.tags import LATER_COMMIT_TAG
from runner.cli import completions
from runner.cli.output import open_store
from runner.cli.text import print_lines, print_message, printable
from runner.errors import UsageError
from runner.model import RunRecord
from runner.runs.history import find_later_commits
from runner.runs.local import LocalReader
from runner.runs.projects import find_project
from runner.runs.reader import RunQuery
from runner.store import values
from runner.store.database import Database

_MOST = 10_000
"""Runs of a project that are looked at, newest first."""


@click.command("link")
@click.argument("run", metavar="[RUN]…", nargs=-1, shell_complete=completions.runs)
@click.option("--json", "as_json", is_flag=True, help="Print the links as JSON: the commit of each run.")
def link(run: tuple[str, ...], as_json: bool) -> int:
    r"""Link runs of uncommitted changes to the commit that has exactly their code.

    Without RUN, all runs of the project in this folder are looked at. The commit becomes the tag `proj.commit` of the
    run; if several commits have the code, it is the oldest one. Exits with 1 if a named RUN has no such commit.

    \b
    Examples:
      proj link
      proj link latest
    """
    with open_store() as (database, home):
        reader = LocalReader(database, home, print_message)
        records = [reader.record(word) for word in run] if run else _unlinked(reader)
        found = find_later_commits(records, home)
        _write(database, found)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return 1 if run and len(found) < len({one.run_id for one in records}) else 0
    names = {one.run_id: one.run_name or "" for one in records}
    for run_id, commit in found.items():
        print_lines(f"run {run_id[:8]} ({printable(names[run_id])}) is commit {commit}")
    rest = [one for one in records if run and one.run_id not in found]
    for one in rest:
        print_message(f"run {(one.run_id or '')[:8]}: {_why_not(one)}")
    if not (found or rest):
        print_message("no run of this project has the code of a later commit")
    return 1 if rest else 0


def _unlinked(reader: LocalReader) -> Sequence[RunRecord]:
    project = find_project(Path.cwd())
    if project is None:
        raise UsageError("The current folder no longer exists", hint="Go to a project, or name runs.")
    page = reader.search(RunQuery(project=project, limit=_MOST))
    return [one for one in page.records if one.code and one.code.dirty and LATER_COMMIT_TAG not in one.tags]


def _write(database: Database, found: dict[str, str]) -> None:
    with database.transaction():
        for run_id, commit in found.items():
            values.set_tags(database, run_id, {LATER_COMMIT_TAG: commit})


def _why_not(record: RunRecord) -> str:
    if record.code is None:
        return "proj did not start it, so its code is not recorded"
    if not record.code.dirty:
        return f"it ran a commit already, {record.code.commit}" if record.code.commit else "its code is not in git"
    return "no commit of its repository has exactly its code"
