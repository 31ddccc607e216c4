"""Whose runs are read: the own store's, or those of the server that the user names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.masking import Masker
from runner.errors import UsageError
from runner.runs.reader import RunReader
from runner.settings import is_offline, tracking_uri

if TYPE_CHECKING:
    from runner.runs import remote
    from runner.sync import client
else:
    remote = LazyModule("runner.runs.remote")
    client = LazyModule("runner.sync.client")

_SCHEMES = ("http://", "https://")


def server_to_read(named: str | None, *, local: bool = False) -> str | None:
    """Return the address of the server to read from; None for the own store.

    Args:
        named: what the user says; else MLFLOW_TRACKING_URI counts, where it names a server.
        local: whether the user asks for the own store.

    Raises:
        UsageError: what the user says is no address of a server, contradicts itself, or needs a network that must be
            left alone.
    """
    if named is not None:
        if local:
            raise UsageError("--tracking-uri and --local contradict each other")
        if not named.strip().lower().startswith(_SCHEMES):
            shown = Masker().text(named)
            hint = "A folder or a database of MLflow comes in with `proj import`."
            raise UsageError(f"'{shown}' is not the address of a server", hint=hint)
        if is_offline():
            raise UsageError("proj is asked to leave the network alone", hint="Leave --offline out, or say --local.")
        return named
    uri = None if local or is_offline() else tracking_uri(None)
    return uri if uri is not None and uri.lower().startswith(_SCHEMES) else None


@contextmanager
def open_remote(uri: str) -> Iterator[RunReader]:
    """Read a tracking server.

    Raises:
        UsageError: this is no address of one.
    """
    with client.RemoteServer(uri) as found:
        yield remote.RemoteReader(found)
