"""``proj run``: words of the user to a `RunRequest`, the record to text or JSON."""

import re

import click
import msgspec
from msgspec import structs

from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE
from runner.cli.output import how_declared
from runner.cli.text import hinting_once, print_lines, say, show_error, show_event
from runner.errors import UsageError
from runner.manifest.durations import seconds_of
from runner.model import EnvironmentRecord, RunRecord, RunRequest, RunStatus
from runner.plan import make_plan
from runner.plan_record import describe_plan
from runner.process import Echo
from runner.server.run.redirects import read_served
from runner.store.database import Database
from runner.workflow import run_with_repairs


def _parameters(words: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"-P takes NAME=VALUE, not {word!r}", hint="an empty value is written NAME=")
        if name in given:
            raise UsageError(f"-P {name} is given twice")
        given[name] = value
    return given


def _engine_options(words: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Return options for the container engine by name; MLflow's words, but that a name may come more than once."""
    options = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"-A takes NAME or NAME=VALUE, not {word!r}", hint="names are written without dashes")
        options.append((name, value if equals else None))
    return tuple(options)


def _addresses(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses as `served_address` writes them."""
    return tuple(dict.fromkeys(map(read_served, words)))


@click.command("run")
@click.argument("uri", default=".", metavar="[PROJECT]", shell_complete=completions.files)
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
    "words",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; repeatable.",
    shell_complete=completions.parameters,
)
@click.option(
    "--params-file",
    metavar="FILE",
    help="Parameters from a YAML or JSON file; -P wins.",
    shell_complete=completions.files,
)
@click.option("-v", "--version", metavar="REF", help="Branch, tag or commit (short ids too) to run.")
@click.option(
    "--experiment-name",
    "--experiment",
    metavar="NAME",
    help="Experiment to record in; made when absent.",
    shell_complete=completions.experiments,
)
@click.option("--experiment-id", metavar="ID", help="Experiment to record in, by id.")
@click.option(
    *("-A", "--docker-args", "engine_words"),
    multiple=True,
    metavar="NAME[=VALUE]",
    help="An option for the container engine: -x for one letter, else --name; repeatable.",
)
@click.option("--run-name", metavar="NAME", help="Name of the run. [default: made up]")
@click.option(
    "--env-manager",
    metavar="NAME",
    help="uv, virtualenv, conda, container, local (none of its own).",
    shell_complete=completions.environment_makers,
)
@click.option("--as-of", metavar="DATE|commit|now", help="Consider packages uploaded until then.")
@click.option("--timeout", metavar="TIME", help="Stop the command after so long: seconds, or 90s, 10m, 1h30m.")
@click.option("--no-repair", is_flag=True, help="Take an old project exactly as declared, even if it can't run so.")
@click.option("--add-missing", is_flag=True, help="Install packages that the code imports and nobody declares.")
@click.option(
    "--serve-as",
    multiple=True,
    metavar="HOST:PORT",
    help="Answer for this address, where the code logs; repeatable.",
)
@click.option("--tracking-uri", metavar="URI", help="Record on this MLflow server too. [default: MLFLOW_TRACKING_URI]")
@click.option("--in-place", is_flag=True, help="Run in the project folder itself, not in a frozen copy.")
@OFFLINE
@click.option("--dry-run", is_flag=True, help="Print the plan; run, build and record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; the command's output goes to stderr.")
def run(
    words: tuple[str, ...],
    engine_words: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    serve_as: tuple[str, ...],
    **options: str | float | bool | None,
) -> int:
    """Run an entry point of PROJECT and record code, environment, parameters and results.

    PROJECT is a folder, a git URL, a bare repository or a zip archive; #sub/dir names a folder inside it.
    """
    request = structs.replace(
        _request(words, options), container_options=_engine_options(engine_words), serve_as=_addresses(serve_as)
    )
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    report = hinting_once(show_event)
    plan = make_plan(request, home, report)
    if dry_run:
        _print_plan(describe_plan(plan), plan.request.experiment_id, as_json)
        return 0
    outcome = run_with_repairs(plan, report, Echo.STDERR if as_json else Echo.SPLIT)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(outcome.record), indent=2))
    if outcome.error:
        show_error(outcome.error)
    _say_outcome(outcome.record)
    return outcome.exit_code


def _request(words: tuple[str, ...], options: dict[str, str | float | bool | None]) -> RunRequest:
    return RunRequest(
        uri=str(options["uri"]),
        entry_point=_text(options, "entry_point"),
        parameters=_parameters(words),
        parameters_file=_text(options, "params_file"),
        version=_text(options, "version"),
        experiment_name=_text(options, "experiment_name"),
        experiment_id=_text(options, "experiment_id"),
        run_name=_text(options, "run_name"),
        tracking_uri=_text(options, "tracking_uri"),
        environment_manager=_text(options, "env_manager"),
        in_place=bool(options["in_place"]),
        repair=not options["no_repair"],
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
    """Say in one line which code a run is of."""
    code = record.code
    if code is None:
        return "code unknown"
    if code.commit is None:
        return f"tree {code.tree[:12]} (not in git)"
    where = f" on {code.branch}" if code.branch else ""
    if not code.dirty:
        return f"commit {code.commit[:12]}{where}, clean"
    return f"commit {code.commit[:12]}{where}, dirty: {len(code.changed_files)} files differ, tree {code.tree[:12]}"


def _say_outcome(record: RunRecord) -> None:
    run_id = (record.run_id or "")[:8]
    colour = "green" if record.status == RunStatus.FINISHED.value else "red"
    seconds = f" in {record.resources.wall_seconds:.1f} s" if record.resources else ""
    say(f"run {run_id} ({record.run_name}) {record.status}{seconds}", fg=colour, bold=True)
    say(f"  code: {describe_code(record)}")
    if record.environment and record.environment.manager != "local":
        say(f"  environment: {how_declared(record.environment)}")
    if record.repairs:
        say(f"  repaired: {'; '.join(record.repairs)}")
    if record.redirects:
        say(f"  tracking: {'; '.join(record.redirects)}")
    for name, value in sorted(record.metrics.items())[:8]:
        say(f"  {name} = {value:g}")
    if record.reason:
        say(f"  why: {record.reason}")
    if record.status != RunStatus.FINISHED.value and record.folder:
        say(f"  its folder is kept: {record.folder}")
    say(f"  next: proj show {run_id}")


def _describe_environment(environment: EnvironmentRecord) -> str:
    what = environment.image or f"python {environment.python or 'any'}"
    return f"{environment.manager}, {what}"


def _print_plan(plan: RunRecord, experiment_id: str | None, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2))
        return
    rows = {
        "project": plan.project,
        "entry point": plan.entry_point,
        "code": describe_code(plan),
        "experiment": plan.experiment or f"the one with the id {experiment_id}",
        "environment": plan.environment and _describe_environment(plan.environment),
        "command": plan.command,
    }
    for name, value in rows.items():
        print_lines(f"{name + ':':13}{value}")
    for repair in (*(plan.environment.repairs if plan.environment else ()), *plan.repairs):
        print_lines(f"  repaired: {repair}")
    for parameter in plan.parameters:
        print_lines(f"  {parameter.name} = {parameter.value}  ({parameter.type}, {parameter.source})")
