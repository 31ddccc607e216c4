"""Opens the store or server from which a command reads runs.

This is apart from ``output.py`` because the search modules take time to load.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.cli.output import read_store
from runner.cli.text import print_message, printable
from runner.runs.opening import open_remote, server_to_read

if TYPE_CHECKING:
    from runner.runs import local as local_runs
    from runner.runs.reader import RunReader
    from runner.sync import client
else:
    client = LazyModule("runner.sync.client")
    local_runs = LazyModule("runner.runs.local")


@contextmanager
def open_server(tracking_uri: str | None, *, local: bool) -> "Iterator[client.RemoteServer | None]":
    """Open the selected server, or return None for the local store; see `open_runs`."""
    uri = server_to_read(tracking_uri, local=local)
    if uri is None:
        yield None
        return
    with client.RemoteServer(uri) as server:
        if tracking_uri is None:
            _announce(server.url)
        yield server


@contextmanager
def open_runs(tracking_uri: str | None, *, local: bool) -> "Iterator[RunReader]":
    """Open the selected store or server; if only the environment names the server, print its address."""
    uri = server_to_read(tracking_uri, local=local)
    if uri is None:
        with read_store() as (database, home):
            yield local_runs.LocalReader(database, home, print_message)
        return
    with open_remote(uri, print_message) as reader:
        if tracking_uri is None:
            _announce(reader.server or "")
        yield reader


def _announce(server: str) -> None:
    print_message(f"reading {printable(server)} (MLFLOW_TRACKING_URI); --local reads the local store")
