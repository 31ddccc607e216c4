"""Selects the store to read runs from: the local store or a tracking server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.masking import Masker
from runner.errors import UsageError
from runner.settings import is_offline, tracking_uri
from runner.store.run_selection import Notify

if TYPE_CHECKING:
    from runner.runs import remote
    from runner.runs.reader import RunReader
    from runner.sync import client
else:
    remote = LazyModule("runner.runs.remote")
    client = LazyModule("runner.sync.client")

_SCHEMES = ("http://", "https://")


def server_to_read(named: str | None, *, local: bool = False) -> str | None:
    """Return the address of the server to read from, or None for the local store.

    Args:
        named: the URI given by the user; without one, MLFLOW_TRACKING_URI is used if it names a server.
        local: whether the user selects the local store.

    Raises:
        UsageError: the URI is not a server address, the options contradict each other, or the server needs a
            network while network access is disabled.
    """
    if named is not None:
        if local:
            raise UsageError("--tracking-uri and --local contradict each other")
        if not named.strip().lower().startswith(_SCHEMES):
            shown = Masker().text(named)
            hint = "Import an MLflow folder or database with `proj import`."
            raise UsageError(f"'{shown}' is not the address of a server", hint=hint)
        if is_offline():
            raise UsageError(
                "The network is disabled (--offline)", hint="Remove --offline and unset PROJ_OFFLINE, or use --local."
            )
        return named
    uri = None if local or is_offline() else tracking_uri(None)
    return uri if uri is not None and uri.lower().startswith(_SCHEMES) else None


@contextmanager
def open_remote(uri: str, notify: Notify | None = None) -> "Iterator[RunReader]":
    """Open a tracking server for reading; ``say`` gets messages about words that select the newest of several runs.

    Raises:
        UsageError: the URI is not the address of a tracking server.
    """
    with client.RemoteServer(uri) as found:
        yield remote.RemoteReader(found, notify)
