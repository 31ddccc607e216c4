"""``proj log``: prints the output of a run's command, byte for byte."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from runner.base.dead_links import LinkFilter
from runner.base.files import open_regular
from runner.base.streams import flush_output
from runner.cli import completions
from runner.cli.options import reads_runs
from runner.cli.output import read_store
from runner.cli.run_source import open_runs
from runner.cli.text import print_message
from runner.errors import NotFoundError
from runner.runs.opening import server_to_read
from runner.settings import Home
from runner.store import lost_runs, runs
from runner.store.database import Database
from runner.store.run_selection import resolve

_PIECE = 1 << 20
_PAUSE = 0.2
"""Seconds between two reads of a growing log."""


@click.command("log")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.option("-f", "--follow", is_flag=True, help="Continue until the run ends.")
@click.option("--raw", is_flag=True, help="Print links to servers that ended with the run, too.")
@reads_runs
def log(run: str, follow: bool, raw: bool, tracking_uri: str | None, local: bool) -> None:
    """Print the output of RUN: an id, the beginning of an id, a name, `latest` or `latest~1`.

    A run that is on a server and was started here has its output here as well, also while it is running.

    \b
    Examples:
      proj log latest
      proj log -f 7f3a
    """  # noqa: D301  # click reads the control character
    if server_to_read(tracking_uri, local=local) is None:
        with read_store() as (database, home):
            run_id = resolve(database, run, print_message)
            pieces = _local_pieces(database, home, run_id, follow=follow)
            _print(pieces if raw else _without_links(database, run_id, pieces))
        return
    with open_runs(tracking_uri, local=local) as reader:
        run_id = reader.own_id(run)
        with read_store() as (database, home):
            is_here = _is_log(home.log(run_id))
            if not is_here:
                _print(reader.output(run))
                return
            pieces = _local_pieces(database, home, run_id, follow=follow)
            _print(pieces if raw else _without_links(database, run_id, pieces))


def _local_pieces(database: Database, home: Home, run_id: str, *, follow: bool) -> Iterator[bytes]:
    path = home.log(run_id)
    if not _is_log(path) and (not follow or _is_over(database, run_id)):
        raise NotFoundError(f"The run {run_id[:8]} has no output", hint="Its command did not start or removed it.")
    return _follow(database, home, run_id) if follow else _read(path, 0)


def _without_links(database: Database, run_id: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield an output without links to the run's own server."""
    links = None
    for piece in pieces:
        # The address is recorded before the command starts, so it is known when there is output.
        links = links or LinkFilter(runs.get(database, run_id).details.addresses)
        yield links.feed(piece)
    yield links.end() if links else b""


def _print(pieces: Iterator[bytes]) -> None:
    try:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        flush_output()  # the reader stopped early, as in `proj log RUN | head`


def _follow(database: Database, home: Home, run_id: str) -> Iterator[bytes]:
    """Yield the output until the run ends; what proj prints for a detached run meanwhile goes to stderr."""
    messages = home.messages(run_id)
    position = printed = 0
    while True:
        # Checked before reading, so that output written just before the end is not missed.
        over = _is_over(database, run_id)
        for piece in _read(messages, printed):
            printed += len(piece)
            print_message(piece.decode("utf-8", "replace").rstrip("\n"))
        for piece in _read(home.log(run_id), position):
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
