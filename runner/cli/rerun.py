"""``proj rerun``: runs a recorded run again, with other parameters as given."""

import click
from msgspec import structs

from runner.base.tags import NOTE_TAG
from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE, check_text, read_tags
from runner.cli.output import read_store
from runner.cli.own_command import CommandWithArguments, own_command
from runner.cli.progress_line import showing_progress
from runner.cli.run import choose_echo, print_plan, read_parameters, read_timeout, run_and_print
from runner.cli.text import print_message, print_warning, show_event, show_hints_once
from runner.model import Event, RunRequest
from runner.plan_record import describe_plan
from runner.rerunning import describe_deviations, plan_rerun
from runner.settings import tracking_uri
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.run_selection import resolve

Option = str | bool | tuple[str, ...] | None


@click.command("rerun", cls=CommandWithArguments)
@click.argument("run", metavar="RUN [-- COMMAND…]", shell_complete=completions.runs)
@click.option(
    "-P", "--param", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a parameter; repeatable."
)
@click.option("--allow-changed-inputs", is_flag=True, help="Run also if inputs are missing or were changed since.")
@click.option("--run-name", metavar="NAME", help="Name of the new run. [default: a random name]")
@click.option("--experiment", metavar="NAME", help="Experiment to record in. [default: that of RUN]")
@click.option("--tag", "tags", multiple=True, metavar="NAME[=VALUE]", help="Set a tag of the new run; repeatable.")
@click.option("--note", metavar="TEXT", help="Note of the new run.")
@click.option("--timeout", metavar="TIME", help="Stop the command after this time: seconds, or 90s, 10m, 1h30m.")
@click.option("--tracking-uri", metavar="URI", help="Also record on this MLflow server. [default: MLFLOW_TRACKING_URI]")
@OFFLINE
@click.option("--no-tty", is_flag=True, help="Give the command no terminal: no colours, no progress bars.")
@click.option("--dry-run", is_flag=True, help="Print the plan; build, run and record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; the command's output goes to stderr.")
def rerun(run: str, dry_run: bool, as_json: bool, no_tty: bool, allow_changed_inputs: bool, **options: Option) -> int:
    r"""Run RUN again: same code, environment lock and inputs; parameters that are not given with -P stay as they were.

    The code comes from proj's home: the project may have changed since, or be gone. Inputs outside the code are
    compared with their recorded digests first. A run of a command (proj run . -- COMMAND) runs that command again, or
    the one after --. The exit code is that of the command.

    \b
    Examples:
      proj rerun latest
      proj rerun 7f3a09c1 -P alpha=0.9 --tag sweep=alpha
      proj rerun latest -- python train.py --epochs 5
    """
    request = structs.replace(_request(options), command=own_command())
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    with read_store() as (database, _):
        before = runs.get(database, resolve(database, run, print_message))
        if tracking_uri(request.tracking_uri) and request.experiment_name is None:
            # The experiment has another id on the server.
            name = experiments.get(database, before.experiment_id).name
            request = structs.replace(request, experiment_name=name)
    report = show_hints_once(show_event)
    with showing_progress():
        plan = plan_rerun(before, request, home, report, with_changed_inputs=allow_changed_inputs)
    if dry_run:
        print_plan(describe_plan(plan), plan.request.experiment_id, as_json)
        return 0
    started: list[str] = []

    def show(event: Event) -> None:
        started.extend([event.run_id] if event.run_id else [])
        report(event)

    code = run_and_print(plan, show, choose_echo(as_json=as_json, no_tty=no_tty), as_json=as_json)
    _report_environment(before, started)
    return code


def _report_environment(before: Run, started: list[str]) -> None:
    """Warn if the environment of the last of the runs that were started is not that of the run before."""
    if not started:
        return
    with read_store() as (database, _):
        after = runs.get(database, started[-1])
    deviations = describe_deviations(before.details.environment, after.details.environment)
    if deviations is not None:
        print_warning(f"the environment is not that of run {before.run_id[:8]}: {deviations}")


def _request(options: dict[str, Option]) -> RunRequest:
    """Return the request of what the user gives; the recorded run decides the rest."""
    given = {name: value if isinstance(value, str) else None for name, value in options.items()}
    assignments, tags, note = options["assignments"], options["tags"], given["note"]
    request = RunRequest(
        uri="",
        parameters=read_parameters(assignments if isinstance(assignments, tuple) else ()),
        experiment_name=given["experiment"],
        run_name=given["run_name"],
        timeout=read_timeout(given["timeout"]),
        tracking_uri=given["tracking_uri"],
        tags=read_tags(tags if isinstance(tags, tuple) else ()),
    )
    if not note:
        return request
    return structs.replace(request, tags={**request.tags, NOTE_TAG: check_text("tag", "note", note)})
