"""Finds the latest run of the project in the current folder, for commands of continuous integration."""

from collections.abc import Iterator
from pathlib import Path

from runner.base.tags import ENTRY_POINT_TAG, REPRODUCES_TAG
from runner.cli.output import read_store
from runner.cli.text import print_message
from runner.errors import NotFoundError, UsageError
from runner.model import RunRecord, RunStatus
from runner.runs.local import LocalReader
from runner.runs.projects import find_project, is_of_project
from runner.runs.reader import RunQuery

_EXAMINED = 1000
"""Runs among which the latest one is looked for."""


def latest_run(entry_point: str) -> str:
    """Return the id of the latest finished run of this project, pulled ones too, that reproduces no other run.

    The address of a repository may differ between machines: if no run is known to be of this project, the latest run of
    the entry point is taken, and named.

    Raises:
        NotFoundError: there is no such run.
    """
    if "'" in entry_point and '"' in entry_point:
        raise UsageError(f"No entry point is named {entry_point}")
    project = find_project(Path.cwd())
    with read_store() as (database, home):
        quote = '"' if "'" in entry_point else "'"
        wanted = f"tags.`{ENTRY_POINT_TAG}` = {quote}{entry_point}{quote}"
        reader = LocalReader(database, home)
        found = list(_originals(reader.search(RunQuery(filter=wanted, limit=_EXAMINED)).records))
    own = [one for one in found if project is not None and is_of_project(one.tags, project)]
    chosen = next(iter(own or found), None)
    if chosen is None or chosen.run_id is None:
        raise NotFoundError(
            f"There is no finished run of the entry point '{entry_point}'",
            hint="`proj pull --git origin` takes over runs that were shared with `proj push --git origin`.",
        )
    whose = "" if own else f", recorded for {chosen.project}"
    print_message(f"run {chosen.run_id[:8]} of {chosen.started_at}{whose}")
    return chosen.run_id


def _originals(records: tuple[RunRecord, ...]) -> Iterator[RunRecord]:
    for one in records:
        if one.status == RunStatus.FINISHED.value and REPRODUCES_TAG not in one.tags:
            yield one
