"""``proj log``: prints the output of a run's command, byte for byte."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from runner.base.files import open_regular
from runner.cli import completions
from runner.cli.output import read_store
from runner.cli.streams import flush_output
from runner.errors import NotFoundError
from runner.store import lost_runs, runs
from runner.store.database import Database

_PIECE = 1 << 20
_PAUSE = 0.2
"""Seconds between two reads of a growing log."""


@click.command("log")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.option("-f", "--follow", is_flag=True, help="Continue until the run ends.")
def log(run: str, follow: bool) -> None:
    """Print the output of RUN: an id, the beginning of an id, a name, or `latest`."""
    with read_store() as (database, home):
        run_id = runs.resolve(database, run)
        path = home.log(run_id)
        if not _is_log(path) and (not follow or _is_over(database, run_id)):
            raise NotFoundError(f"The run {run_id[:8]} has no output", hint="Its command did not start or removed it.")
        pieces = _follow(database, run_id, path) if follow else _read(path, 0)
        try:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            flush_output()  # the reader stopped early, as in `proj log RUN | head`


def _follow(database: Database, run_id: str, path: Path) -> Iterator[bytes]:
    position = 0
    while True:
        # Checked before reading, so that output written just before the end is not missed.
        over = _is_over(database, run_id)
        for piece in _read(path, position):
            position += len(piece)
            yield piece
        if over:
            return
        time.sleep(_PAUSE)


def _is_log(path: Path) -> bool:
    """Return whether there is a log; the command can put a pipe or a link in its place."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path, position: int) -> Iterator[bytes]:
    if _is_log(path):
        with open_regular(path) as file:
            file.seek(position)
            while piece := file.read(_PIECE):
                yield piece


def _is_over(database: Database, run_id: str) -> bool:
    return lost_runs.is_over(database, run_id)
