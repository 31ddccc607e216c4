"""``proj bisect``: finds the commit that made a metric bad."""

import click
import msgspec

from runner.cli import completions
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import OFFLINE
from runner.cli.progress_line import showing_progress
from runner.cli.run import read_parameters, read_timeout
from runner.cli.text import print_lines, print_message, printable, show_event, show_hints_once
from runner.explanation.bisection import Bisection, parse_condition
from runner.explanation.bisection import bisect as bisect_commits
from runner.model import RunRequest
from runner.store.database import Database

_SHOWN = 20
"""Changed files that are listed; JSON has all."""


@click.command("bisect")
@click.argument("good")
@click.argument("bad")
@click.option(
    "--metric",
    nargs=2,
    required=True,
    metavar="NAME CONDITION",
    help="When a commit is bad, for example: rmse '> 0.8'.",
)
@click.option("--project", "uri", default=".", metavar="PROJECT", help="Folder or git URL. [default: this folder]")
@click.option("-e", "--entry-point", metavar="NAME", help="Entry point to run. [default: main]")
@click.option("-P", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a parameter; repeatable.")
@click.option(
    "--env-manager",
    metavar="NAME",
    help="uv, virtualenv, conda, container, or local.",
    shell_complete=completions.environment_makers,
)
@click.option("--as-of", metavar="DATE|commit|now", help="Use only packages uploaded until then. [default: commit]")
@click.option("--timeout", metavar="TIME", help="Skip a commit whose run takes longer: 90s, 10m, 1h30m.")
@OFFLINE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def bisect(good: str, bad: str, as_json: bool, metric: tuple[str, str], **options: str | tuple[str, ...] | None) -> int:
    r"""Find the first commit between GOOD and BAD whose run has a bad value of a metric.

    Commits are run from proj's own copy: the working tree, HEAD and the branches stay as they are. A commit whose run
    fails, or does not log the metric, is skipped. A finished run of the same code, environment and inputs is not
    repeated. The other runs are nested in the run of BAD. Exits with 1 if skipped commits hide the first bad one.

    \b
    Examples:
      proj bisect v1.0 HEAD --metric rmse '> 0.8'
      proj bisect 3fa2c1d main --metric accuracy '< 0.9' -P epochs=1 --json
    """
    assignments = options["assignments"]
    request = RunRequest(
        uri=str(options["uri"]),
        entry_point=_text(options["entry_point"]),
        parameters=read_parameters(assignments if isinstance(assignments, tuple) else ()),
        environment_manager=_text(options["env_manager"]),
        as_of=_text(options["as_of"]),
        timeout=read_timeout(_text(options["timeout"])),
    )
    condition = parse_condition(*metric)
    home = enter_home(writing=True)
    Database.check(home.database)
    warn_of_lost_store(home)
    with showing_progress():
        found = bisect_commits(request, (good, bad), condition, home, show_hints_once(show_event))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _print(found)
    return 0 if found.first_bad else 1


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _print(found: Bisection) -> None:
    if found.first_bad is None:
        print_lines(f"skipped commits hide the first one with {printable(found.condition)}; it is one of:")
        print_lines("\n".join(f"  {commit}" for commit in found.candidates))
        return
    print_lines(f"{found.first_bad} is the first commit with {printable(found.condition)}")
    if found.summary:
        author = printable(found.summary.author)
        print_lines(f"  {printable(found.summary.subject)} ({author}, {found.summary.day})")
    for one in found.files[:_SHOWN]:
        counts = "binary" if one.added is None else f"+{one.added} -{one.removed}"
        print_lines(f"  {printable(one.path)} {counts}")
    if len(found.files) > _SHOWN:
        print_lines(f"  and {len(found.files) - _SHOWN} more files")
    print_message(f"  {len(found.steps)} commits were looked at; next: git show {found.first_bad[:12]}")
