"""``proj list``: lists runs as a table, as CSV or as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import structs

from runner.cli import completions
from runner.cli.columns import CSV_COLUMNS, find_columns, split_names
from runner.cli.options import reads_runs
from runner.cli.run_source import open_runs
from runner.cli.run_table import Listing, print_columns, print_runs
from runner.cli.tables import print_csv
from runner.cli.text import print_message, print_warning
from runner.model import RunRecord, RunStatus
from runner.runs.nesting import in_tree
from runner.runs.primary_metric import PrimaryMetric, declared_metrics, usual_goal
from runner.runs.projects import find_project
from runner.runs.reader import ProjectScope, RunQuery, RunReader
from runner.runs.unknown_names import search_explained
from runner.store.search import RecordPage

_OWN = "the runs of this project; --all lists those of all projects"


_FEW = 100


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options that say what is listed, and how."""

    experiment: str | None
    status: str | None
    condition: str
    order_by: tuple[str, ...]
    everything: bool
    tree: bool
    tracking_uri: str | None
    local: bool

    @property
    def is_folded(self) -> bool:
        """Whether nested runs are hidden below their parents: a search lists every run that it finds."""
        return not (self.condition.strip() or self.status or self.order_by)


@click.command("list")
@click.option(
    "--experiment",
    metavar="NAME",
    help="Only runs of this experiment (name or id).",
    shell_complete=completions.experiments,
)
@click.option(
    "--status",
    type=click.Choice([status.value for status in RunStatus], case_sensitive=False),
    help="Only runs with this status.",
)
@click.option("--filter", "condition", default="", metavar="TEXT", help="As in MLflow: metrics.rmse < 0.8 AND ….")
@click.option("--order-by", multiple=True, metavar="COLUMN", help='As in MLflow: "metrics.rmse ASC"; repeatable.')
@click.option("-n", "--limit", type=click.IntRange(1, 50_000), default=20, show_default=True, help="Maximal number.")
@click.option("--columns", metavar="NAMES", help="Comma-separated: run, status, params.alpha, metrics.*, tags.team.")
@click.option("--all", "everything", is_flag=True, help="Runs of all projects, not only of the one in this folder.")
@click.option("--tree", is_flag=True, help="Show nested runs below their parents.")
@reads_runs
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: complete ids, times in UTC, exact numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as a JSON list.")
def list_runs(columns: str | None, limit: int, as_csv: bool, as_json: bool, **chosen: object) -> None:
    """List runs, newest first, with the parameters in which they differ.

    In a project, only its own runs are listed. The primary metric (`metric:` in MLproject, else the one that was logged
    first) comes first, its best value has a mark. A star after a commit marks code with uncommitted changes, an
    exclamation mark a run that changed data of yours to which it had links. Nested runs are counted at their parents,
    unless you search; CSV and JSON have all.

    \b
    Examples:
      proj list --filter 'metrics.rmse < 0.8' --order-by 'metrics.rmse ASC'
      proj list --columns run,params.*,metrics.rmse --csv
    """  # noqa: D301  # click reads the control character
    options = msgspec.convert(chosen, _Options)
    names = None if columns is None else split_names(columns)
    find_columns(names or (), ())
    with open_runs(options.tracking_uri, local=options.local) as reader:
        is_data = as_csv or as_json
        page, query = _search(reader, options, limit, is_folded=options.is_folded and not is_data)
        is_confined = not is_data and query.project is not None and _are_others(reader, query, page)
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(page.records), indent=2))
        elif as_csv:
            shown = find_columns(CSV_COLUMNS if names is None else names, page.records)
            rows = ([column.data(record) for column in shown] for record in page.records)
            print_csv(tuple(column.title for column in shown), rows)
        elif not page.records:
            print_message("no runs" + (" of this project; --all lists those of all projects" if is_confined else ""))
        else:
            _print(reader, page.records, names, options)
    if is_confined and page.records:
        print_message(_OWN)
    if page.next_page_token:
        print_message(f"more runs: --limit {limit * 5}")


def _search(reader: RunReader, options: _Options, limit: int, *, is_folded: bool) -> tuple[RecordPage, RunQuery]:
    """Return the runs, and the search that found them; it may be confined to the project in the current folder."""
    project = None if options.everything or options.experiment is not None else _project()
    query = RunQuery(
        experiment=options.experiment,
        filter=_filter(options),
        order_by=options.order_by,
        limit=limit,
        project=project,
        folded=is_folded,
    )
    # A folder without a manifest is a project only if it has runs.
    if project is not None and not project.is_certain and not reader.search(RunQuery(project=project, limit=1)).records:
        query = structs.replace(query, project=None)
    return search_explained(reader, query, print_warning), query


def _are_others(reader: RunReader, query: RunQuery, page: RecordPage) -> bool:
    """Return whether there are runs of other projects, too; for long lists this is not looked up."""
    count = len(page.records)
    if page.next_page_token or count > _FEW:
        return True
    return len(reader.search(structs.replace(query, project=None, limit=count + 1)).records) > count


def _project() -> ProjectScope | None:
    try:
        return find_project(Path.cwd())
    except FileNotFoundError:  # the current folder was removed
        return None


def _print(reader: RunReader, records: Sequence[RunRecord], names: tuple[str, ...] | None, options: _Options) -> None:
    depths: dict[str, int] = {}
    nested: Mapping[str, int] = {}
    if options.tree:
        records, depths = in_tree(reader, records)
    elif options.is_folded:
        nested = reader.count_children([record.run_id or "" for record in records])
    if names is None:
        primary = _primary_metrics(reader, records)
        print_runs(Listing(records=records, primary=primary, depths=depths, nested=nested))
    else:
        print_columns(find_columns(names, records), records)


def _primary_metrics(reader: RunReader, records: Sequence[RunRecord]) -> tuple[PrimaryMetric, ...]:
    """Return the declared primary metrics, or the metric that the newest listed run with metrics logged first."""
    declared = tuple(one for one in declared_metrics(records) if any(one.name in record.metrics for record in records))
    newest = next((record.run_id for record in records if record.metrics), None)
    if declared or newest is None:
        return declared
    name = reader.first_metric(newest)
    return () if name is None else (PrimaryMetric(name=name, goal=usual_goal(name)),)


def _filter(options: _Options) -> str:
    parts = [options.condition] if options.condition.strip() else []
    if options.status:
        parts.append(f"status = '{options.status.upper()}'")
    return " AND ".join(parts)
