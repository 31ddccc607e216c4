"""``proj new``: creates a project from a template."""

import sys
from pathlib import Path

import click

from runner.cli.home import enter_home
from runner.cli.text import print_message, show_event
from runner.errors import UsageError
from runner.scaffold import ScaffoldRequest, new_project


def _answers(assignments: tuple[str, ...]) -> dict[str, str]:
    answers: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UsageError(f"--data takes KEY=VALUE, not {assignment!r}")
        if name in answers:
            raise UsageError(f"--data {name} is given twice", context=f"{name}={answers[name]} and {assignment}")
        answers[name] = value
    return answers


@click.command("new")
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@click.option("-t", "--template", default="sklearn", show_default=True, metavar="NAME|URL|PATH", help="The template.")
@click.option(
    "-d",
    "--data",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Answer to a question of the template; repeatable.",
)
@click.option("-y", "--defaults", is_flag=True, help="Ask nothing; use the template's defaults.")
@click.option(
    "--trust", is_flag=True, help="Allow the template to run its own code: tasks, migrations, Jinja extensions."
)
def new(folder: Path, template: str, assignments: tuple[str, ...], defaults: bool, trust: bool) -> None:
    """Create a project in the new folder NAME.

    The project has a manifest, a locked environment, a script that logs with MLflow, a test, a README, CI, and a git
    repository with a first commit; `proj run .` works in it at once.

    Built-in templates: sklearn trains, scores and logs a scikit-learn model; minimal is one script that logs numbers.
    A copier template can be used too: a git URL (https, ssh, gh:owner/name) or a folder.

    \b
    Examples:
      proj new churn
      proj new churn --template sklearn
    """  # noqa: D301  # click reads the control character
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    request = ScaffoldRequest(
        folder=folder, template=template, answers=_answers(assignments), ask=terminal and not defaults, trust=trust
    )
    made = new_project(request, enter_home(writing=True), show_event)
    print_message(
        f"created {made.name} from template {template}, with a git repository and a first commit", fg="green", bold=True
    )
    if (made / "MLproject").is_file():
        print_message(f"  next: cd {folder}")
        print_message("        proj run .")
    click.echo(made)
