"""Options that choose several runs, and the files that commands write instead of printing."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from runner.base.files import write_atomically
from runner.cli import completions
from runner.cli.options import Command
from runner.cli.text import print_message, print_warning, printable
from runner.errors import NotFoundError, UsageError
from runner.model import RunRecord
from runner.reporting.series import find_records
from runner.runs.reader import RunQuery, RunReader
from runner.runs.unknown_names import search_explained

Options = Mapping[str, str | bool | int | float | tuple[str, ...] | None]


def chooses_runs(command: Command) -> Command:
    """Add the argument RUN… and the options that choose runs by a search instead."""
    run = click.argument("run", metavar="[RUN]…", nargs=-1, shell_complete=completions.runs)
    experiment = click.option(
        "--experiment",
        metavar="NAME",
        help="The runs of this experiment (name or id).",
        shell_complete=completions.experiments,
    )
    condition = click.option("--filter", "condition", metavar="TEXT", help="As in MLflow: metrics.rmse < 0.8 AND ….")
    limit = click.option(
        *("-n", "--limit"),
        type=click.IntRange(1, 200),
        default=20,
        show_default=True,
        help="Maximal number of runs of a search.",
    )
    return run(experiment(condition(limit(command))))


def chosen_records(reader: RunReader, options: Options) -> tuple[RunRecord, ...]:
    """Return the records of the runs that the options name or search; by default of the latest run.

    Raises:
        UsageError: runs are both named and searched.
        NotFoundError: no run is found.
    """
    references, experiment, condition = options["run"], options["experiment"], options["condition"]
    if experiment is None and condition is None:
        return find_records(reader, references if isinstance(references, tuple) and references else ("latest",))
    if references:
        raise UsageError("Name runs, or search them with --experiment and --filter, not both")
    limit = int(str(options["limit"]))
    query = RunQuery(experiment=_text(experiment), filter=_text(condition) or "", limit=limit)
    page = search_explained(reader, query, print_warning)
    if not page.records:
        raise NotFoundError("The search found no runs", hint="See `proj list` and `proj experiments list`.")
    if page.next_page_token:
        print_message(f"the newest {limit} runs of the search; more with --limit {min(200, limit * 5)}")
    return find_records(reader, [record.run_id or "" for record in page.records])


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def check_target(name: str | None, *suffixes: str) -> None:
    """Require that a file to write has the suffix of its kind, so that no other file is replaced by mistake.

    Raises:
        UsageError: it has another suffix.
    """
    if name is not None and name != "-" and not name.lower().endswith(suffixes):
        raise UsageError(f"The name of the file must end in {' or '.join(suffixes)}: '{printable(name)}'")


def write_target(name: str, data: bytes) -> None:
    """Write a file and print its path; ``-`` is stdout."""
    if name == "-":
        sys.stdout.buffer.write(data)
        return
    write_atomically(Path(name), data)
    click.echo(printable(name))
