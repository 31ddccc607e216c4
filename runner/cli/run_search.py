"""Options that select runs by a search instead of by name; in a project, they find its own runs only."""

import time
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from runner.cli import completions
from runner.cli.options import Command, read_age
from runner.cli.text import print_message, print_warning
from runner.errors import UsageError
from runner.model import RunRecord, RunStatus
from runner.runs.projects import find_project
from runner.runs.reader import ProjectScope, RunQuery, RunReader
from runner.runs.unknown_names import search_explained

_MOST = 50_000


class Search(Struct, frozen=True, kw_only=True):
    """The values of the options; ``age`` is the text of ``--older-than``."""

    condition: str | None = None
    experiment: str | None = None
    status: str | None = None
    age: str | None = None
    everything: bool = False

    @property
    def is_given(self) -> bool:
        """Whether an option describes runs; ``--all`` alone only widens a search."""
        return not (self.condition is self.experiment is self.status is self.age is None)


def searches_runs(command: Command) -> Command:
    """Add the options of a search; the command passes their values to `read_search`."""
    options = (
        click.option("--filter", "condition", metavar="TEXT", help="Runs that match: metrics.rmse < 0.8 AND …."),
        click.option(
            "--experiment",
            metavar="NAME",
            help="Runs of this experiment (name or id).",
            shell_complete=completions.experiments,
        ),
        click.option(
            "--status",
            type=click.Choice([status.value for status in RunStatus], case_sensitive=False),
            help="Runs with this status.",
        ),
        click.option("--older-than", "age", metavar="AGE", help="Runs that ended longer ago: 12h, 30d, 8w."),
        click.option("--all", "everything", is_flag=True, help="Search all projects, not only the one in this folder."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_search(values: Mapping[str, object], *, named: bool) -> Search:
    """Return the search that the options describe; ``named`` says whether runs are also given by name.

    Raises:
        UsageError: there are neither names nor a search, or both; or an option is empty.
    """
    search = msgspec.convert(values, Search)
    if search.condition is not None and not search.condition.strip():
        raise UsageError("--filter is empty", hint='For example: --filter "metrics.rmse > 0.8"')
    if search.age is not None:
        read_age(search.age)
    if named and (search.is_given or search.everything):
        raise UsageError("Name runs, or search them with --filter, --experiment, --status and --older-than, not both")
    if not (named or search.is_given):
        wanted = "--all only widens a search" if search.everything else "No runs are given"
        raise UsageError(wanted, hint="Name runs, or search them: --filter, --experiment, --status, --older-than 30d.")
    return search


def find_records(reader: RunReader, search: Search) -> tuple[RunRecord, ...]:
    """Return the records of all runs that a search finds, newest first; without any, say where was searched.

    Raises:
        InvalidValueError: the filter is not valid.
        UsageError: more runs match than one command takes.
    """
    project = None if search.everything else _project()
    query = RunQuery(experiment=search.experiment, filter=_filter(search), limit=_MOST, project=project)
    page = search_explained(reader, query, print_warning)
    if page.next_page_token:
        raise UsageError(f"More than {_MOST:,} runs match", hint="Narrow the search, for example with --experiment.")
    if not page.records:
        hint = "" if project is None else " in the project of this folder; --all searches all projects"
        print_message(f"no runs match{hint}")
    return page.records


def _project() -> ProjectScope | None:
    try:
        found = find_project(Path.cwd())
    except FileNotFoundError:
        found = None
    if found is None:
        raise UsageError("The current folder was removed, so it is in no project", hint="--all searches all projects.")
    return found


def _filter(search: Search) -> str:
    parts = [search.condition] if search.condition else []
    if search.status:
        parts.append(f"status = '{search.status.upper()}'")
    if search.age is not None:
        parts.append(f"attributes.end_time < {int((time.time() - read_age(search.age)) * 1000)}")
    return " AND ".join(parts)
