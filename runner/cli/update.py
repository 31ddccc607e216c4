"""``proj update``: updates a project to a newer version of its template."""

import sys
from pathlib import Path

import click

from runner.cli.home import enter_home
from runner.cli.text import print_lines, print_message, show_event
from runner.scaffold import update_project


@click.command("update")
@click.argument("folder", default=".", metavar="[PROJECT]", type=click.Path(path_type=Path))
@click.option("-y", "--defaults", is_flag=True, help="Ask nothing; use the template's defaults for new questions.")
@click.option(
    "--trust", is_flag=True, help="Allow the template to run its own code: tasks, migrations, Jinja extensions."
)
def update(folder: Path, defaults: bool, trust: bool) -> int:
    """Merge the changes of a project's template since its last use.

    PROJECT must be created by `proj new` (or by copier) and have no uncommitted changes. Your own changes are kept, and
    nothing is committed. Conflicting lines get conflict markers, and the exit code is 1.

    \b
    Examples:
      proj update
    """  # noqa: D301  # click reads the control character
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    done = update_project(folder, enter_home(writing=True), show_event, ask=terminal and not defaults, trust=trust)
    if not done.changed:
        print_message(f"the project already uses the template's version {done.after}; nothing changed", fg="green")
        return 0
    print_message(f"merged the template from {done.before} to {done.after}", fg="green", bold=True)
    for path in done.changed:
        print_lines(f"{'conflict' if path in done.conflicts else 'changed':10}{path}")
    if done.conflicts:
        print_message("  next: edit the files in conflict, then git add and commit them", fg="yellow")
        return 1
    print_message("  next: git diff, then commit; git restore -SW . && git clean -fd . reverts it")
    return 0
