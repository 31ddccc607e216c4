"""Whose runs a reading command reads: apart from what it shares with others, as searching takes time to load."""

from collections.abc import Iterator
from contextlib import contextmanager

from runner.cli.output import clean, read_store
from runner.cli.text import say
from runner.runs.local import LocalReader
from runner.runs.opening import open_remote, server_to_read
from runner.runs.reader import RunReader


@contextmanager
def open_runs(tracking_uri: str | None, *, local: bool) -> Iterator[RunReader]:
    """Open what the user wants to read; a server that only the environment names is told."""
    uri = server_to_read(tracking_uri, local=local)
    if uri is None:
        with read_store() as (database, home):
            yield LocalReader(database, home)
        return
    with open_remote(uri) as reader:
        if tracking_uri is None:
            say(f"reading {clean(reader.server or '')} (MLFLOW_TRACKING_URI); --local reads the own store")
        yield reader
