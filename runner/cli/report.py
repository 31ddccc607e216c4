"""``proj report``: writes runs as one static HTML file."""

import click

from runner.base.plurals import counted
from runner.cli.home import enter_home
from runner.cli.options import reads_runs
from runner.cli.output import duration, short_code, size
from runner.cli.run_choice import Options, check_target, chooses_runs, chosen_records, write_target
from runner.cli.run_source import open_runs
from runner.cli.text import show_event
from runner.model import Event, EventKind, RunRecord
from runner.reporting.images import ImageLimits
from runner.reporting.page import report_page
from runner.reporting.report import ReportLimits, read_report
from runner.reporting.tables import Wording
from runner.runs.local import LocalReader

_KILOBYTE = 1000


@click.command("report")
@chooses_runs
@click.option("-o", "--output", required=True, metavar="FILE", help="The HTML file to write; - is stdout.")
@click.option("--title", metavar="TEXT", help="Title of the page. [default: the experiment or the runs]")
@click.option(
    "--image-limit",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    metavar="KB",
    help="Size in kB up to which an image is put into the page.",
)
@reads_runs
def report(
    output: str, title: str | None, image_limit: int, **options: str | bool | int | tuple[str, ...] | None
) -> None:
    """Write each RUN, by default the latest one, as one HTML file that needs no network and no script.

    It has the parameters and metrics with the differences marked, the curves, images, files, and the differences of
    code, environment and inputs. The code is compared with that of the run that started first.

    \b
    Examples:
      proj report latest latest~1 -o report.html
    """  # noqa: D301  # click reads the control character
    check_target(output, ".html", ".htm")
    uri = options["tracking_uri"]
    with open_runs(None if uri is None else str(uri), local=bool(options["local"])) as reader:
        records = chosen_records(reader, options)
        home = reader.home if isinstance(reader, LocalReader) else enter_home()
        show_event(Event(kind=EventKind.STEP, message=f"Reading {counted(len(records), 'run')}"))
        limits = ReportLimits(images=ImageLimits(single=image_limit * _KILOBYTE))
        found = read_report(reader, records, home, title or _title(records, options), limits)
    write_target(output, report_page(found, Wording(size=size, duration=duration, code=short_code)))


def _title(records: tuple[RunRecord, ...], options: Options) -> str:
    experiments = {record.experiment for record in records}
    if options["experiment"] is not None and len(experiments) == 1:
        return f"Experiment {experiments.pop()}"
    if len(records) == 1:
        return f"Run {(records[0].run_id or '')[:8]} {records[0].run_name or ''}".rstrip()
    return f"Comparison of {counted(len(records), 'run')}"
