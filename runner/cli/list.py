"""``proj list``: runs as a table or as JSON."""

import sys

import click
import msgspec

from runner.cli.reading import clean, duration, local_time, open_store, short_code
from runner.cli.text import say
from runner.errors import NotFoundError
from runner.model import RunRecord, RunStatus
from runner.store import experiments
from runner.store.database import Database
from runner.store.record_pages import search_records
from runner.store.search import SearchQuery

_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "red", "LOST": "red"}
_METRICS = 3
"""Metrics shown of one run; `proj show` has all."""


@click.command("list")
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment (name or id).")
@click.option(
    "--status", type=click.Choice([status.value for status in RunStatus], case_sensitive=False), help="Only such runs."
)
@click.option("--filter", "condition", default="", metavar="TEXT", help="As in MLflow: metrics.rmse < 0.8 AND ….")
@click.option("--order-by", multiple=True, metavar="COLUMN", help='As in MLflow: "metrics.rmse ASC"; repeatable.')
@click.option("--limit", type=click.IntRange(1, 50_000), default=20, show_default=True, help="Runs at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as a JSON list.")
def list_runs(
    experiment: str | None, status: str | None, condition: str, order_by: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List runs, newest first. A star after the commit marks code that differed from it."""
    parts = [condition] if condition.strip() else []
    if status:
        parts.append(f"status = '{status.upper()}'")
    with open_store() as (database, home):
        query = SearchQuery(
            experiment_ids=None if experiment is None else (_experiment_id(database, experiment),),
            filter=" AND ".join(parts),
            order_by=order_by,
            limit=limit,
        )
        page = search_records(database, query, home)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(page.records), indent=2))
        return
    if page.records:
        _print_table(page.records)
    else:
        say("no runs")
    if page.next_page_token:
        say(f"more runs: --limit {limit * 5}")


def _experiment_id(database: Database, word: str) -> str:
    found = experiments.find(database, word)
    if found is not None:
        return found.id
    try:
        return experiments.get(database, word).id
    except NotFoundError as error:
        raise NotFoundError(f"There is no experiment '{clean(word)}'") from error


def _print_table(records: tuple[RunRecord, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "name", "experiment", "entry point", "status", "started", "took", "code", "metrics"):
        table.add_column(title, no_wrap=title != "metrics")
    for record in records:
        status = record.status or ""
        cells = (
            (record.run_id or "")[:8],
            record.run_name or "",
            record.experiment or "",
            record.entry_point or "",
            status,
            local_time(record.started_at),
            duration(record),
            short_code(record.code),
            ", ".join(f"{name}={value:.5g}" for name, value in list(record.metrics.items())[:_METRICS]),
        )
        row = [Text(clean(cell)) for cell in cells]
        row[4].stylize(_COLOURS.get(status, "yellow"))
        table.add_row(*row)
    # A pipe has no width; nothing may be cut off there.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
