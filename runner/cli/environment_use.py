"""``proj exec`` and ``proj shell``: a command or a shell in the environment that runs of a project use."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import click
from msgspec import Struct

from runner.base.files import write_atomically
from runner.base.streams import flush_output
from runner.cli import completions
from runner.cli.home import enter_home
from runner.cli.options import OFFLINE, PROJECT, project_folder
from runner.cli.progress_line import showing_progress
from runner.cli.text import print_message, show_event
from runner.environments.cache.leases import keep_across_exec
from runner.errors import ExecutionError
from runner.model import RunRequest
from runner.process.replacing import replace_process
from runner.project_environment import ProjectEnvironment, provide_environment
from runner.settings import Home

ACTIVE = "PROJ_SHELL"
"""The variable of a shell of ``proj shell``: the folder of its project."""

BASH_STARTUP = """\
[ -f ~/.bashrc ] && . ~/.bashrc
export PATH="$PROJ_SHELL_PATH"
PS1="(${PROJ_SHELL##*/}) $PS1"
"""
"""What bash reads at its start: the user's own file may put other programs before those of the environment."""


class EnvironmentUse(Struct, frozen=True, kw_only=True):
    """The environment of a project as JSON."""

    project: str
    prefix: str | None
    python: str | None
    python_version: str | None
    manager: str
    lock_digest: str | None
    path_entries: tuple[str, ...]
    variables: dict[str, str]


def _options(command: Callable[..., object]) -> Callable[..., object]:
    entry = click.option("-e", "--entry-point", metavar="NAME", help="Use the environment of this entry point.")
    manager = click.option(
        "--env-manager",
        "manager",
        metavar="NAME",
        help="As of proj run.",
        shell_complete=completions.environment_makers,
    )
    return PROJECT(entry(manager(OFFLINE(command))))


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG...]")
def execute(command: tuple[str, ...], folder: Path | None, entry_point: str | None, manager: str | None) -> NoReturn:
    """Run CMD in the environment of the project, in the current folder.

    Nothing is recorded: `proj run` records. The exit code is that of CMD.

    \b
    Examples:
      proj exec -- python -m pytest -q
      proj exec -- python -c "import sys; print(sys.version)"
    """  # noqa: D301  # click reads the control character
    found = open_environment(folder, entry_point, manager)
    _replace_process(command, found.variables(os.environ, Path.cwd()))


@click.command("shell")
@_options
def shell(folder: Path | None, entry_point: str | None, manager: str | None) -> NoReturn:
    """Start a shell in the environment of the project; `exit` ends it.

    The shell is that of SHELL, else bash. Nothing is recorded in it, except what `proj run` runs.

    \b
    Examples:
      proj shell
    """  # noqa: D301  # click reads the control character
    found = open_environment(folder, entry_point, manager)
    program = os.environ.get("SHELL") or "bash"
    variables = found.variables(os.environ, Path.cwd())
    variables = {**variables, ACTIVE: str(found.project), "PROJ_SHELL_PATH": variables["PATH"]}
    arguments = [program]
    if Path(program).name == "bash" and sys.stdin.isatty():
        arguments += ["--rcfile", str(_startup_file(enter_home()))]
    print_message(f"environment of {found.project}: {_summary(found)}; 'exit' leaves it, nothing in it is recorded")
    _replace_process(tuple(arguments), variables)


def open_environment(folder: Path | None, entry_point: str | None, manager: str | None) -> ProjectEnvironment:
    """Return the environment of a project folder; it is built if it is missing."""
    request = RunRequest(uri=str(project_folder(folder)), entry_point=entry_point, environment_manager=manager)
    with showing_progress():
        return provide_environment(request, enter_home(writing=True), show_event)


def describe(found: ProjectEnvironment) -> EnvironmentUse:
    """Return an environment as JSON has it, with the variables that it sets."""
    record = found.prepared.record
    return EnvironmentUse(
        project=str(found.project),
        prefix=record.prefix,
        python=str(found.python) if found.python else None,
        python_version=record.python,
        manager=record.manager,
        lock_digest=record.lock_digest,
        path_entries=tuple(map(str, found.prepared.path_entries)),
        variables=dict(found.prepared.variables_in(found.project)),
    )


def _summary(found: ProjectEnvironment) -> str:
    record = found.prepared.record
    return f"{record.manager}, Python {record.python or 'none'}"


def _startup_file(home: Home) -> Path:
    path = home.root / "cache" / "shell.bashrc"
    if not path.exists() or path.read_text("utf-8") != BASH_STARTUP:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, BASH_STARTUP.encode())
    return path


def _replace_process(command: tuple[str, ...], variables: Mapping[str, str]) -> NoReturn:
    """Replace this process by a command, which keeps the environment leased.

    Raises:
        ExecutionError: the command does not exist or can't be started.
    """
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise ExecutionError(
            f"There is no command '{command[0]}' in the environment or on PATH",
            hint="'proj add PKG' adds a package to the environment.",
        )
    flush_output()
    keep_across_exec()
    try:
        replace_process(program, command, variables)
    except OSError as error:
        raise ExecutionError(f"'{command[0]}' can't be started: {error.strerror}", context=program) from error
