"""Starts a viewer for a file, which goes on after proj has ended."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from runner.errors import ExecutionError

_PATIENCE = 2.0
"""Seconds in which a program that can't show the file usually ends."""


def start_viewer(argv: Sequence[str], path: Path) -> None:
    """Start a program with the path of a file or folder, apart from this process and its terminal.

    Raises:
        ExecutionError: the program can't be started, or fails at once.
    """
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(  # noqa: S603
            [*argv, str(path)], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except OSError as error:
        raise ExecutionError(f"'{argv[0]}' can't be started", context=error.strerror) from error
    try:
        exit_code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:  # it shows the file
        return
    if exit_code:
        raise ExecutionError(
            f"'{argv[0]}' could not open the file (exit code {exit_code})",
            context=str(path),
            hint="Set PROJ_VIEWER to a program that can.",
        )
