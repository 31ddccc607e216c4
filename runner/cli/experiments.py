"""``proj experiments``: lists and changes experiments."""

from collections.abc import Callable
from itertools import islice

import click
import msgspec
from msgspec import structs

from runner.cli import completions
from runner.cli.groups import CommandGroup
from runner.cli.options import reads_runs
from runner.cli.output import local_time, open_store, read_store
from runner.cli.run_source import open_server
from runner.cli.tables import print_table
from runner.cli.text import print_message
from runner.runs.local import find_experiment
from runner.store import experiments as store
from runner.store.entities import Experiment, LifecycleStage, View
from runner.store.records import format_time
from runner.store.search import MAX_RESULTS, ExperimentQuery, search_experiments
from runner.sync.client import RemoteServer

Count = Callable[[str], int | None]
"""A function that returns the number of runs of an experiment, by its id; None if it is not known."""


@click.group("experiments", cls=CommandGroup)
def experiments() -> None:
    """List and change experiments, which group runs. EXPERIMENT is a name or an id."""


@experiments.command("list")
@click.option("--filter", "condition", default="", metavar="TEXT", help="As in MLflow: name LIKE 'churn%'.")
@click.option("--all", "with_deleted", is_flag=True, help="Include deleted experiments.")
@click.option("--limit", type=click.IntRange(1, 50_000), default=100, show_default=True, help="Maximal number.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_experiments(
    condition: str, with_deleted: bool, limit: int, tracking_uri: str | None, local: bool, as_json: bool
) -> None:
    """List experiments, newest first. A server does not say how many runs they have.

    \b
    Examples:
      proj experiments list
    """  # noqa: D301  # click reads the control character
    query = ExperimentQuery(filter=condition, view=View.ALL if with_deleted else View.ACTIVE, limit=limit)
    with open_server(tracking_uri, local=local) as server:
        found, counts = _search(query) if server is None else _search_on(server, query)
    listed = found[:limit]
    if as_json:
        rows = [_row(one, counts(one.id)) for one in listed]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    print_table(
        ("id", "name", "runs", "created", "state"),
        [
            (one.id, one.name, _shown(counts(one.id)), local_time(format_time(one.created_at)), _state(one))
            for one in listed
        ],
    )
    if len(found) > limit:
        print_message(f"more experiments: --limit {limit * 5}")


def _search(query: ExperimentQuery) -> tuple[list[Experiment], Count]:
    """Return the experiments of the local store, one more than the limit if there are more, and their runs."""
    with read_store() as (database, _):
        page = search_experiments(database, structs.replace(query, limit=min(query.limit + 1, MAX_RESULTS)))
        counts = store.count_runs(database, [one.id for one in page.items])
    return list(page.items), lambda number: counts.get(number, 0)


def _search_on(server: RemoteServer, query: ExperimentQuery) -> tuple[list[Experiment], Count]:
    found = islice(server.experiments(query.filter, view=query.view), query.limit + 1)
    return list(found), lambda _: None


@experiments.command("create")
@click.argument("name", metavar="NAME")
def create(name: str) -> None:
    """Create an experiment and print its id.

    \b
    Examples:
      proj experiments create churn
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        click.echo(store.create(database, name))


@experiments.command("rename")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
@click.argument("name", metavar="NAME")
def rename(experiment: str, name: str) -> None:
    """Give EXPERIMENT another NAME.

    \b
    Examples:
      proj experiments rename churn churn-2024
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        store.rename(database, find_experiment(database, experiment).id, name)


@experiments.command("delete")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
def delete(experiment: str) -> None:
    """Mark EXPERIMENT and its runs as deleted; `restore` reverts this.

    \b
    Examples:
      proj experiments delete churn
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        found = find_experiment(database, experiment)
        store.delete(database, found.id)
    print_message(f"to restore it: proj experiments restore {found.id}")


@experiments.command("restore")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
def restore(experiment: str) -> None:
    """Restore EXPERIMENT and its runs.

    \b
    Examples:
      proj experiments restore churn
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        store.restore(database, find_experiment(database, experiment).id)


def _row(found: Experiment, runs: int | None) -> dict[str, object]:
    return {
        "experiment_id": found.id,
        "name": found.name,
        "lifecycle_stage": found.lifecycle_stage.value,
        "runs": runs,
        "created_at": format_time(found.created_at),
        "artifact_location": found.artifact_location,
        "tags": found.tags,
    }


def _shown(count: int | None) -> str:
    return "" if count is None else str(count)


def _state(found: Experiment) -> str:
    return "deleted" if found.lifecycle_stage is LifecycleStage.DELETED else ""
