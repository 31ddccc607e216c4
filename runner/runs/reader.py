"""Defines the interface for reading runs, independent of where they are recorded."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from runner.model import RunRecord
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import Omission
from runner.store.downsampling import SampledHistory
from runner.store.entities import LoggedModel, Metric
from runner.store.search import RecordPage


class RunQuery(Struct, frozen=True, kw_only=True):
    """A search for runs; ``experiment`` is a name or an id, filter and order use MLflow's search language."""

    experiment: str | None = None
    filter: str = ""
    order_by: tuple[str, ...] = ()
    limit: int = 1000


class RunArtifact(Struct, frozen=True, kw_only=True):
    """A file of a run: its displayed path, its size in bytes, and a function that yields its content in pieces.

    ``names`` are the path components on disk. With ``on_request`` the file is not an artifact and is returned only if
    requested by name.
    ``sha256`` is the digest recorded at the end of the run, or None. Reading a file that no longer exists raises
    `NotFoundError`.
    """

    name: str
    names: tuple[str, ...]
    size: int | None
    pieces: Callable[[], Iterator[bytes]]
    on_request: bool = False
    sha256: str | None = None


class RunArtifacts(Struct, frozen=True, kw_only=True):
    """The files of a run, and the omissions: entries that can't be returned, with reasons."""

    files: tuple[RunArtifact, ...]
    omissions: tuple[Omission, ...] = ()


def folder_of(model: LoggedModel) -> str:
    """Return the folder name for the files of a logged model: its name, or its id if the name can't be a folder's."""
    return model.name if is_possible(model.name) else model.model_id


class RunReader(Protocol):
    """Reads runs. The argument ``reference`` selects a run: an id, an id prefix, a name, or ``latest``.

    Every method raises `NotFoundError` for a missing item, `InvalidValueError` for an invalid argument, and
    `RemoteError` if a server fails.
    """

    server: str | None
    """The address of the server; None for the local store."""

    def search(self, query: RunQuery) -> RecordPage:
        """Return the records that match a query, newest first unless another order is given."""
        ...

    def record(self, reference: str) -> RunRecord:
        """Return the complete record of a run."""
        ...

    def last_points(self, reference: str) -> Mapping[str, Metric]:
        """Return the last point of each metric of a run."""
        ...

    def history(self, reference: str, name: str) -> Iterator[Metric]:
        """Yield all points of a metric of a run."""
        ...

    def sampled_history(self, reference: str, name: str, limit: int) -> SampledHistory:
        """Return the history of a metric of a run, reduced to at most ``limit`` points."""
        ...

    def files(self, reference: str) -> RunArtifacts:
        """Return the files of a run; files of a logged model are in a folder with its name."""
        ...
