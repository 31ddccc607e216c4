"""Options that several commands have."""

import os
from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def _go_offline(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    # As a variable it reaches every part, and runs that the command itself starts.
    if value:
        os.environ["PROJ_OFFLINE"] = "1"


OFFLINE = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_go_offline,
    help="Use only what is here already, and name what is missing.",
)


def reads_runs(command: Command) -> Command:
    """Give a command the options that say whose runs are read."""
    local = click.option("--local", is_flag=True, help="Read the own store, whatever MLFLOW_TRACKING_URI says.")
    uri = click.option("--tracking-uri", metavar="URI", help="Read this MLflow server. [default: MLFLOW_TRACKING_URI]")
    return uri(local(command))
