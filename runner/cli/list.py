"""``proj list``: lists runs as a table, as CSV or as JSON."""

import click
import msgspec

from runner.cli import completions
from runner.cli.columns import DROP_ORDER, find_columns
from runner.cli.options import reads_runs
from runner.cli.run_source import open_runs
from runner.cli.tables import print_csv, print_table
from runner.cli.text import print_message
from runner.model import RunStatus
from runner.runs.reader import RunQuery

_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "red", "LOST": "red", "RUNNING": "yellow"}


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
@click.option("--columns", metavar="NAMES", help="Comma-separated: run, status, params.alpha, metrics.rmse, tags.team.")
@reads_runs
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as a JSON list.")
def list_runs(
    columns: str | None, limit: int, as_csv: bool, as_json: bool, **options: str | bool | tuple[str, ...] | None
) -> None:
    """List runs, newest first. A star after a commit marks code with uncommitted changes."""
    shown = find_columns(columns)
    wanted = msgspec.convert({**options, "filter": _filter(options), "limit": limit}, RunQuery)
    with open_runs(_text(options["tracking_uri"]), local=bool(options["local"])) as reader:
        page = reader.search(wanted)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(page.records), indent=2))
        return
    if columns is None and not any(shown["verdict"](record) for record in page.records):
        shown = {name: column for name, column in shown.items() if name != "verdict"}
    rows = [tuple(column(record) for column in shown.values()) for record in page.records]
    if as_csv:
        print_csv(tuple(shown), rows)
    elif rows:
        print_table(tuple(shown), rows, _COLOURS, () if columns else DROP_ORDER)
    else:
        print_message("no runs")
    if page.next_page_token:
        print_message(f"more runs: --limit {limit * 5}")


def _text(value: str | bool | tuple[str, ...] | None) -> str | None:
    return None if value is None else str(value)


def _filter(options: dict[str, str | bool | tuple[str, ...] | None]) -> str:
    condition, status = str(options["condition"] or ""), options["status"]
    parts = [condition] if condition.strip() else []
    if status:
        parts.append(f"status = '{str(status).upper()}'")
    return " AND ".join(parts)
