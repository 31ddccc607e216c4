"""Replaces this process by a program, which then has its terminal, signals and exit code."""

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn


def replace_process(program: str, arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Replace this process by a program; open output must be flushed before.

    Raises:
        OSError: the program can't be started.
    """
    os.execve(program, list(arguments), dict(variables))  # noqa: S606  # without a shell, as the user typed it
