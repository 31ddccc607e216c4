"""``proj calibrate``: measures by how much the results of a run differ when nothing is changed."""

import click
import msgspec

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE
from runner.cli.text import print_lines, print_message, show_event, show_hints_once
from runner.reproduction.calibrating import calibrate as calibrate_run
from runner.reproduction.reproducing import ReproduceRequest
from runner.reproduction.verdict import Reproduction
from runner.store.database import Database


@click.command("calibrate")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.option("-n", "count", type=click.IntRange(2, 1000), default=5, show_default=True, help="Number of repetitions.")
@OFFLINE
@click.option("--json", "as_json", is_flag=True, help="Print the noise as JSON.")
def calibrate(run: str, count: int, as_json: bool) -> None:
    """Repeat RUN and store by how much its results differ; `proj reproduce` then allows that much.

    Example: proj calibrate latest -n 5
    """
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    request = ReproduceRequest(run=run, rtol=0.0, atol=0.0)
    noise = calibrate_run(request, count, home, show_hints_once(show_event), _show)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(noise), indent=2))
        return
    for name, value in sorted({**noise.metrics, **noise.outputs}.items()):
        print_lines(f"{name}: differs by up to {value:.6g}")
    for name in noise.unstable:
        print_lines(f"{name}: differs in another way than by numbers; no tolerance helps")
    if not (noise.metrics or noise.outputs or noise.unstable):
        print_lines(f"no difference in {counted(count, 'repetition')}")


def _show(found: Reproduction) -> None:
    if found.run_id:
        print_message(f"run {found.run_id[:8]}: {found.verdict.value}")
