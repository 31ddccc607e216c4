"""Options shared by several commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from runner.base.durations import seconds_of
from runner.cli.text import printable
from runner.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., object])


def _go_offline(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    # The variable also reaches runs that the command itself starts.
    if value:
        os.environ["PROJ_OFFLINE"] = "1"


OFFLINE = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_go_offline,
    help="Do not use the network; fail if something needed is not cached.",
)


def reads_runs(command: Command) -> Command:
    """Add the options that select the store from which a command reads runs."""
    local = click.option("--local", is_flag=True, help="Read the local store and ignore MLFLOW_TRACKING_URI.")
    uri = click.option("--tracking-uri", metavar="URI", help="Read this MLflow server. [default: MLFLOW_TRACKING_URI]")
    return uri(local(command))


PROJECT = click.option(
    "--project",
    "folder",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the project. [default: this folder, or the nearest one above it with an MLproject]",
)


def project_folder(folder: Path | None) -> Path:
    """Return the folder that ``--project`` names, else the nearest one with a manifest, else the current one."""
    if folder is not None:
        return folder
    here = Path.cwd()
    for above in (here, *here.parents):
        if any(name.lower() == "mlproject" for name in os.listdir(above)):  # noqa: PTH208  # names only
            return Path(os.path.relpath(above))
        if (above / ".git").exists():
            break
    return Path()


def read_age(text: str) -> float:
    """Return the seconds of an age such as ``30d``.

    Raises:
        UsageError: the text is not an age.
    """
    seconds = seconds_of(text)
    if seconds is None:
        raise UsageError(f"'{printable(text)}' is not a valid age", hint="Examples: 30m, 12h, 30d, 8w.")
    return seconds
