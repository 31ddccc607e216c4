"""``proj experiments``: lists and changes experiments."""

import click
import msgspec

from runner.cli import completions
from runner.cli.output import local_time, open_store, read_store
from runner.cli.tables import print_table
from runner.cli.text import print_message
from runner.runs.local import find_experiment
from runner.store import experiments as store
from runner.store.entities import Experiment, LifecycleStage, View
from runner.store.records import format_time
from runner.store.search import ExperimentQuery, search_experiments


@click.group("experiments")
def experiments() -> None:
    """List and change experiments, which group runs. EXPERIMENT is a name or an id."""


@experiments.command("list")
@click.option("--filter", "condition", default="", metavar="TEXT", help="As in MLflow: name LIKE 'churn%'.")
@click.option("--all", "with_deleted", is_flag=True, help="Include deleted experiments.")
@click.option("--limit", type=click.IntRange(1, 50_000), default=100, show_default=True, help="Maximal number.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_experiments(condition: str, with_deleted: bool, limit: int, as_json: bool) -> None:
    """List experiments, newest first."""
    query = ExperimentQuery(filter=condition, view=View.ALL if with_deleted else View.ACTIVE, limit=limit)
    with read_store() as (database, _):
        page = search_experiments(database, query)
        counts = store.count_runs(database, [one.id for one in page.items])
    if as_json:
        rows = [_row(one, counts.get(one.id, 0)) for one in page.items]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    print_table(
        ("id", "name", "runs", "created", "state"),
        [
            (one.id, one.name, str(counts.get(one.id, 0)), local_time(format_time(one.created_at)), _state(one))
            for one in page.items
        ],
    )
    if page.next_page_token:
        print_message(f"more experiments: --limit {limit * 5}")


@experiments.command("create")
@click.argument("name", metavar="NAME")
def create(name: str) -> None:
    """Create an experiment and print its id."""
    with open_store() as (database, _):
        click.echo(store.create(database, name))


@experiments.command("rename")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
@click.argument("name", metavar="NAME")
def rename(experiment: str, name: str) -> None:
    """Give EXPERIMENT another NAME."""
    with open_store() as (database, _):
        store.rename(database, find_experiment(database, experiment).id, name)


@experiments.command("delete")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
def delete(experiment: str) -> None:
    """Mark EXPERIMENT and its runs as deleted; `restore` reverts this."""
    with open_store() as (database, _):
        found = find_experiment(database, experiment)
        store.delete(database, found.id)
    print_message(f"to restore it: proj experiments restore {found.id}")


@experiments.command("restore")
@click.argument("experiment", metavar="EXPERIMENT", shell_complete=completions.experiments)
def restore(experiment: str) -> None:
    """Restore EXPERIMENT and its runs."""
    with open_store() as (database, _):
        store.restore(database, find_experiment(database, experiment).id)


def _row(found: Experiment, runs: int) -> dict[str, object]:
    return {
        "experiment_id": found.id,
        "name": found.name,
        "lifecycle_stage": found.lifecycle_stage.value,
        "runs": runs,
        "created_at": format_time(found.created_at),
        "artifact_location": found.artifact_location,
        "tags": found.tags,
    }


def _state(found: Experiment) -> str:
    return "deleted" if found.lifecycle_stage is LifecycleStage.DELETED else ""
