"""``proj run``: turns the options into a `RunRequest`, runs it, and prints the record as text or JSON."""

import re
import sys
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec import structs

from runner.base.durations import seconds_of
from runner.base.lazy import LazyModule
from runner.base.tags import NOTE_TAG
from runner.cli import completions
from runner.cli.border import guard_errors
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE, check_text, read_tags
from runner.cli.outcome import describe_code, print_outcome
from runner.cli.output import read_store
from runner.cli.own_command import CommandWithArguments, own_command
from runner.cli.progress_line import showing_progress
from runner.cli.text import print_lines, print_message, show_error, show_event, show_hints_once
from runner.errors import UsageError
from runner.model import EnvironmentRecord, Event, Report, RunRecord, RunRequest
from runner.plan import Plan, make_plan
from runner.plan_record import describe_plan
from runner.process import Echo, Release, start_detached
from runner.record import RunOutcome
from runner.reuse import SameRun, find_same_run
from runner.server.run.redirects import read_served
from runner.settings import Home
from runner.store.database import Database
from runner.store.records import read_record
from runner.workflow import run_with_repairs

if TYPE_CHECKING:
    from runner import resumption
    from runner.cli import notification, resume
else:
    notification = LazyModule("runner.cli.notification")
    resume = LazyModule("runner.cli.resume")
    resumption = LazyModule("runner.resumption")

Option = str | float | bool | tuple[str, ...] | None


def read_parameters(assignments: tuple[str, ...]) -> dict[str, str]:
    """Return the values of ``-P``, by name.

    Raises:
        UsageError: an assignment is not NAME=VALUE, or a name is given twice.
    """
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


@click.command("run", cls=CommandWithArguments)
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
@click.option("--tag", "tags", multiple=True, metavar="NAME[=VALUE]", help="Set a tag of the run; repeatable.")
@click.option("--note", metavar="TEXT", help="Note of the run; `proj note` shows and changes it.")
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
@click.option(
    "--trace/--no-trace",
    default=None,
    help="--trace lets the kernel report all opened files (Linux); --no-trace observes none.",
)
@click.option("--in-place", is_flag=True, help="Run in the project folder itself, not in a frozen copy.")
@OFFLINE
@click.option(
    "--resume",
    metavar="RUN",
    help="Continue an interrupted run: its code, environment, parameters and outputs.",
    shell_complete=completions.runs,
)
@click.option("--reuse", is_flag=True, help="Return the finished run of the same code, environment and inputs, if any.")
@click.option("--detach", is_flag=True, help="Run in the background, also after a logout; see proj ps, log -f, stop.")
@click.option("--no-tty", is_flag=True, help="Give the command no terminal: no colours, no progress bars.")
@click.option("--dry-run", is_flag=True, help="Print the plan; build, run and record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; the command's output goes to stderr.")
def run(
    assignments: tuple[str, ...],
    engine_options: tuple[str, ...],
    dry_run: bool,
    detach: bool,
    as_json: bool,
    serve_as: tuple[str, ...],
    **options: Option,
) -> int:
    """Run an entry point of PROJECT and record code, environment, parameters and results.

    PROJECT is a folder, a git URL, a bare repository or a zip archive; #sub/dir names a folder inside it.
    A command after -- runs instead of an entry point: proj run . -- python train.py --epochs 3

    \b
    Examples:
      proj run . -P alpha=0.5
      proj run https://github.com/mlflow/mlflow-example -v master
      proj run . -e evaluate --detach
    """  # noqa: D301  # click reads the control character
    request = structs.replace(
        _request(assignments, options),
        container_options=_engine_options(engine_options),
        serve_as=_addresses(serve_as),
        command=own_command(),
        tags=_tags(options),
    )
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    interrupted = _text(options, "resume")
    if interrupted is not None:
        request = resume.resume_request(request, interrupted)
    report = show_hints_once(show_event)
    if options["reuse"] and (detach or dry_run or request.resumes is not None):
        raise UsageError("--reuse can't be combined with --detach, --dry-run or --resume")
    if detach and not dry_run:
        return _run_detached(request, home, report, as_json=as_json)
    with showing_progress():
        plan = _plan(request, home, report)
        if dry_run:
            print_plan(describe_plan(plan), plan.request.experiment_id, as_json)
            return 0
        same = find_same_run(plan, report) if options["reuse"] else None
        echo = choose_echo(as_json=as_json, no_tty=bool(options["no_tty"]))
        outcome = run_with_repairs(plan, report, echo) if same is None else same
    if isinstance(outcome, SameRun):
        return _print_same(outcome, plan, as_json=as_json)
    return _finish(plan, outcome, as_json=as_json)


def _plan(request: RunRequest, home: Home, report: Report) -> Plan:
    if request.resumes is None:
        return make_plan(request, home, report)
    return resumption.plan_resumption(request, request.resumes, home, report)


def choose_echo(*, as_json: bool, no_tty: bool) -> Echo:
    """Return how the output of the command is shown: in a terminal of its own if proj has one."""
    if as_json:
        return Echo.STDERR
    return Echo.TERMINAL if not no_tty and sys.stdout.isatty() and sys.stderr.isatty() else Echo.SPLIT


def run_and_print(plan: Plan, report: Report, echo: Echo, *, as_json: bool) -> int:
    """Run a plan, print the record, and return the exit code."""
    with showing_progress():
        outcome = run_with_repairs(plan, report, echo)
    return _finish(plan, outcome, as_json=as_json)


def _finish(plan: Plan, outcome: RunOutcome, *, as_json: bool) -> int:
    """Print and announce the record of a run, and return the exit code."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(outcome.record), indent=2))
    if outcome.error:
        show_error(outcome.error)
    print_outcome(outcome.record, plan.source.project, is_explained=outcome.error is not None)
    notification.notify(outcome.record)
    return outcome.exit_code


def _print_same(same: SameRun, plan: Plan, *, as_json: bool) -> int:
    """Print the record of a finished run in place of a new one, and return its exit code."""
    with read_store() as (database, _):
        record = read_record(database, same.run_id, plan.home)
    print_message(f"i The same as {same.text}, which is reused: nothing is started", fg="blue")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2))
    print_outcome(record, plan.source.project)
    return record.exit_code or 0


def _run_detached(request: RunRequest, home: Home, report: Report, *, as_json: bool) -> int:
    """Start a run in a session of its own, print its id, and return 0 as soon as it is recorded."""

    def work(release: Release) -> int:
        def shown(event: Event) -> None:
            if event.run_id is not None:
                release(event.run_id, home.messages(event.run_id))
            report(event)

        def run_quietly() -> int:
            plan = _plan(request, home, shown)
            return _finish(plan, run_with_repairs(plan, shown, Echo.NONE), as_json=False)

        return guard_errors(run_quietly)

    started = start_detached(work)
    if started.name is None:
        return started.exit_code
    with read_store() as (database, _):
        record = read_record(database, started.name, home)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2))
    else:
        click.echo(started.name)
    short = started.name[:8]
    print_message(f"run {short} ({record.run_name}) runs in the background", fg="green", bold=True)
    print_message(f"  follow: proj log -f {short}   stop: proj stop {short}   all: proj ps")
    return 0


def _request(assignments: tuple[str, ...], options: dict[str, Option]) -> RunRequest:
    return RunRequest(
        uri=str(options["uri"]),
        entry_point=_text(options, "entry_point"),
        parameters=read_parameters(assignments),
        parameters_file=_text(options, "params_file"),
        version=_text(options, "version"),
        experiment_name=_text(options, "experiment_name"),
        experiment_id=_text(options, "experiment_id"),
        run_name=_text(options, "run_name"),
        tracking_uri=_text(options, "tracking_uri"),
        environment_manager=_text(options, "env_manager"),
        in_place=bool(options["in_place"]),
        trace=None if options["trace"] is None else bool(options["trace"]),
        repair=options["repair"] is not False,
        replace_declared=options["repair"] is True,
        add_missing=bool(options["add_missing"]),
        as_of=_text(options, "as_of"),
        timeout=read_timeout(_text(options, "timeout")),
    )


def _tags(options: dict[str, Option]) -> dict[str, str]:
    """Return the tags that the user gives the run, its note among them."""
    given, note = options["tags"], _text(options, "note")
    tags = read_tags(given if isinstance(given, tuple) else ())
    return {**tags, NOTE_TAG: check_text("tag", "note", note)} if note else tags


def read_timeout(text: str | None) -> float | None:
    """Return a time limit in seconds, None without one.

    Raises:
        UsageError: the text is not a time.
    """
    if text is None:
        return None
    seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else seconds_of(text)
    if not seconds:
        raise UsageError(f"--timeout {text!r} is not a time", hint="for example 600, 90s, 10m or 1h30m")
    return seconds


def _text(options: dict[str, Option], name: str) -> str | None:
    value = options[name]
    return value if isinstance(value, str) else None


def _describe_environment(environment: EnvironmentRecord) -> str:
    base = environment.image or f"python {environment.python or 'any'}"
    return f"{environment.manager}, {base}"


def print_plan(plan: RunRecord, experiment_id: str | None, as_json: bool) -> None:
    """Print the plan of a run, for people or as JSON."""
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
