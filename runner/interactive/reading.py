"""Opens the store that the Python interface reads from, and logs to the logger ``proj``."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from runner import settings
from runner.model import Event, EventKind
from runner.runs.local import LocalReader
from runner.runs.opening import open_remote, server_to_read
from runner.runs.reader import RunReader
from runner.settings import Exposure, Home
from runner.store import lost_runs
from runner.store.database import Database

LOG = logging.getLogger("proj")


@contextmanager
def open_reader(tracking_uri: str | None) -> Iterator[RunReader]:
    """Open a server, or the local store for ``""``; for None, MLFLOW_TRACKING_URI decides.

    Raises:
        ProjError: the store or the server can't be read.
    """
    uri = server_to_read(tracking_uri or None, local=tracking_uri == "")
    if uri is not None:
        with open_remote(uri, LOG.info) as reader:
            LOG.info("reading %s", reader.server)
            yield reader
        return
    home = enter_home()
    with closing(Database.open_to_read(home.database)) as database:
        lost_runs.show_lost(database)
        yield LocalReader(database, home, LOG.info)


def chosen_uri(tracking_uri: str | None) -> str:
    """Return the server that `open_reader` selects, ``""`` for the local store."""
    return server_to_read(tracking_uri or None, local=tracking_uri == "") or ""


def enter_home(*, writing: bool = False) -> Home:
    """Return proj's home, created first if ``writing``; log a warning if other users can access it.

    Raises:
        HomeError: the home can't be created or used.
    """
    return settings.enter_home(_warn, writing=writing)


def _warn(exposure: Exposure) -> None:
    LOG.warning("%s: %s", exposure.message, exposure.hint)


def log_event(event: Event) -> None:
    """Log an event."""
    LOG.log(logging.WARNING if event.kind is EventKind.WARNING else logging.INFO, "%s", event.message)
