"""``proj run``: turns the options into a `RunRequest`, runs it, and prints the record as text or JSON."""

import re

import click
import msgspec
from msgspec import structs

from runner.base.durations import format_duration, seconds_of
from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE
from runner.cli.output import declaration_summary
from runner.cli.own_command import CommandWithWords, own_command
from runner.cli.text import print_lines, print_message, show_error, show_event, show_hints_once
from runner.errors import UsageError
from runner.model import EnvironmentRecord, RunRecord, RunRequest, RunStatus
from runner.plan import make_plan
from runner.plan_record import describe_plan
from runner.process import Echo
from runner.server.run.redirects import read_served
from runner.store.database import Database
from runner.workflow import run_with_repairs


def _parameters(assignments: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UsageError(f"-P takes NAME=VALUE, not {assignment!r}", hint="for an empty value, write NAME=")
        if name in given:
            raise UsageError(f"-P {name} is given twice")
        given[name] = value
    return given


def _engine_options(assignments: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Return the options of the container engine; the syntax is MLflow's, and a name may occur more than once."""
    options = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"-A takes NAME or NAME=VALUE, not {assignment!r}", hint="write names without dashes")
        options.append((name, value if equals else None))
    return tuple(options)


def _addresses(assignments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of ``--serve-as`` in their normal form, without duplicates."""
    return tuple(dict.fromkeys(map(read_served, assignments)))


@click.command("run", cls=CommandWithWords)
@click.argument("uri", default=".", metavar="[PROJECT] [-- COMMAND…]", shell_complete=completions.files)
@click.option(
    "-e",
    "--entry-point",
    metavar="NAME",
    help="Entry point, or a script of the project. [default: main]",
    shell_complete=completions.entry_points,
)
@click.option(
    "-P",
    "--param-list",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter; repeatable.",
    shell_complete=completions.parameters,
)
@click.option(
    "--params-file",
    metavar="FILE",
    help="Read parameters from a YAML or JSON file; -P overrides it.",
    shell_complete=completions.files,
)
@click.option("-v", "--version", metavar="REF", help="Branch, tag or commit to run; commits can be abbreviated.")
@click.option(
    "--experiment-name",
    "--experiment",
    metavar="NAME",
    help="Experiment to record in; created if it does not exist.",
    shell_complete=completions.experiments,
)
@click.option("--experiment-id", metavar="ID", help="Experiment to record in, by id.")
@click.option(
    *("-A", "--docker-args", "engine_options"),
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Option for the container engine, without dashes; repeatable.",
)
@click.option("--run-name", metavar="NAME", help="Name of the run. [default: a random name]")
@click.option(
    "--env-manager",
    metavar="NAME",
    help="uv, virtualenv, conda, container, or local (the Python on PATH).",
    shell_complete=completions.environment_makers,
)
@click.option("--as-of", metavar="DATE|commit|now", help="Use only packages uploaded until then.")
@click.option("--timeout", metavar="TIME", help="Stop the command after this time: seconds, or 90s, 10m, 1h30m.")
@click.option(
    "--repair/--no-repair",
    default=None,
    help="--repair replaces what a tree with changes declares and can't be installed, as it is done for a commit; "
    "--no-repair uses the project exactly as declared.",
)
@click.option("--add-missing", is_flag=True, help="Install packages that the code imports but does not declare.")
@click.option(
    "--serve-as",
    multiple=True,
    metavar="HOST:PORT",
    help="Record in the run what the code logs to this address; repeatable.",
)
@click.option("--tracking-uri", metavar="URI", help="Also record on this MLflow server. [default: MLFLOW_TRACKING_URI]")
@click.option("--in-place", is_flag=True, help="Run in the project folder itself, not in a frozen copy.")
@OFFLINE
@click.option("--dry-run", is_flag=True, help="Print the plan; build, run and record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; the command's output goes to stderr.")
def run(
    assignments: tuple[str, ...],
    engine_options: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    serve_as: tuple[str, ...],
    **options: str | float | bool | None,
) -> int:
    """Run an entry point of PROJECT and record code, environment, parameters and results.

    PROJECT is a folder, a git URL, a bare repository or a zip archive; #sub/dir names a folder inside it.
    A command after -- runs instead of an entry point: proj run . -- python train.py --epochs 3
    """
    request = structs.replace(
        _request(assignments, options),
        container_options=_engine_options(engine_options),
        serve_as=_addresses(serve_as),
        command=own_command(),
    )
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    report = show_hints_once(show_event)
    plan = make_plan(request, home, report)
    if dry_run:
        _print_plan(describe_plan(plan), plan.request.experiment_id, as_json)
        return 0
    outcome = run_with_repairs(plan, report, Echo.STDERR if as_json else Echo.SPLIT)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(outcome.record), indent=2))
    if outcome.error:
        show_error(outcome.error)
    _print_outcome(outcome.record)
    return outcome.exit_code


def _request(assignments: tuple[str, ...], options: dict[str, str | float | bool | None]) -> RunRequest:
    return RunRequest(
        uri=str(options["uri"]),
        entry_point=_text(options, "entry_point"),
        parameters=_parameters(assignments),
        parameters_file=_text(options, "params_file"),
        version=_text(options, "version"),
        experiment_name=_text(options, "experiment_name"),
        experiment_id=_text(options, "experiment_id"),
        run_name=_text(options, "run_name"),
        tracking_uri=_text(options, "tracking_uri"),
        environment_manager=_text(options, "env_manager"),
        in_place=bool(options["in_place"]),
        repair=options["repair"] is not False,
        replace_declared=options["repair"] is True,
        add_missing=bool(options["add_missing"]),
        as_of=_text(options, "as_of"),
        timeout=_seconds(_text(options, "timeout")),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else seconds_of(text)
    if not seconds:
        raise UsageError(f"--timeout {text!r} is not a time", hint="for example 600, 90s, 10m or 1h30m")
    return seconds


def _text(options: dict[str, str | float | bool | None], name: str) -> str | None:
    value = options[name]
    return value if isinstance(value, str) else None


def describe_code(record: RunRecord) -> str:
    """Describe the code of a run in one line."""
    code = record.code
    if code is None:
        return "code unknown"
    if code.commit is None:
        return f"tree {code.tree[:12]} (not in git)"
    where = f" on {code.branch}" if code.branch else ""
    if not code.dirty:
        return f"commit {code.commit[:12]}{where}, clean"
    count = len(code.changed_files)
    changes = "1 file differs" if count == 1 else f"{count} files differ"
    return f"commit {code.commit[:12]}{where}, dirty: {changes}, tree {code.tree[:12]}"


def _print_outcome(record: RunRecord) -> None:
    run_id = (record.run_id or "")[:8]
    colour = "green" if record.status == RunStatus.FINISHED.value else "red"
    seconds = f" in {format_duration(record.resources.wall_seconds)}" if record.resources else ""
    print_message(f"run {run_id} ({record.run_name}) {record.status}{seconds}", fg=colour, bold=True)
    print_message(f"  code: {describe_code(record)}")
    if record.environment and record.environment.manager != "local":
        print_message(f"  environment: {declaration_summary(record.environment)}")
    if record.repairs:
        print_message(f"  repaired: {'; '.join(record.repairs)}")
    if record.redirects:
        print_message(f"  tracking: {'; '.join(record.redirects)}")
    for name, value in sorted(record.metrics.items())[:8]:
        print_message(f"  {name} = {value:g}")
    if record.reason:
        print_message(f"  why: {record.reason}")
    if record.status != RunStatus.FINISHED.value and record.folder:
        print_message(f"  run folder, kept for inspection: {record.folder}")
    print_message(f"  next: proj show {run_id}")


def _describe_environment(environment: EnvironmentRecord) -> str:
    base = environment.image or f"python {environment.python or 'any'}"
    return f"{environment.manager}, {base}"


def _print_plan(plan: RunRecord, experiment_id: str | None, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2))
        return
    rows = {
        "project": plan.project,
        "entry point": plan.entry_point,
        "code": describe_code(plan),
        "experiment": plan.experiment or f"id {experiment_id}",
        "environment": plan.environment and _describe_environment(plan.environment),
        "command": plan.command,
    }
    for name, value in rows.items():
        print_lines(f"{name + ':':13}{value}")
    for repair in (*(plan.environment.repairs if plan.environment else ()), *plan.repairs):
        print_lines(f"  repaired: {repair}")
    for parameter in plan.parameters:
        print_lines(f"  {parameter.name} = {parameter.value}  ({parameter.type}, {parameter.source})")
