"""``proj update``: bring a later version of its template into a project."""

import sys
from pathlib import Path

import click

from runner.cli.home import enter_home
from runner.cli.text import say, show_event
from runner.scaffold import update_project


@click.command("update")
@click.argument("folder", default=".", metavar="[PROJECT]", type=click.Path(path_type=Path))
@click.option("-y", "--defaults", is_flag=True, help="Ask nothing; new questions get the template's defaults.")
@click.option(
    "--trust", is_flag=True, help="Let the template run code of its own: tasks, migrations, Jinja extensions."
)
def update(folder: Path, defaults: bool, trust: bool) -> int:
    """Merge what changed in a project's template since it was last used.

    PROJECT was made by `proj new` (or by copier) and has no uncommitted changes. Your own changes are kept; nothing is
    committed. Where both sides changed the same lines, both are left between conflict marks, and the exit code is 1.
    """
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    done = update_project(folder, enter_home(writing=True), show_event, ask=terminal and not defaults, trust=trust)
    if not done.changed:
        say(f"the template is at {done.after} already; nothing changed", fg="green")
        return 0
    say(f"merged the template from {done.before} to {done.after}", fg="green", bold=True)
    for path in done.changed:
        click.echo(f"{'conflict' if path in done.conflicts else 'changed':10}{path}")
    if done.conflicts:
        say("  next: edit the files in conflict, then git add and commit them", fg="yellow")
        return 1
    say("  next: git diff, then commit; git restore -SW . && git clean -fd . takes it back")
    return 0
