"""Options that several commands have."""

import os

import click


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
