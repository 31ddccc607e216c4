"""What can be asked about runs, wherever they are recorded."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from runner.model import RunRecord
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import Omission
from runner.store.downsampling import SampledHistory
from runner.store.entities import LoggedModel, Metric
from runner.store.record_pages import RecordPage


class RunQuery(Struct, frozen=True, kw_only=True):
    """A search for runs; ``experiment`` is a name or an id, filter and order are in MLflow's language."""

    experiment: str | None = None
    filter: str = ""
    order_by: tuple[str, ...] = ()
    limit: int = 1000


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file that is kept with a run: its name for the user, its size in bytes, and what reads it piece by piece.

    ``names`` are those of its components on disk. ``on_request`` is no artifact: it is given to who asks for its name.
    ``sha256`` is what was recorded of the content when the run ended, None where nothing was; reading a file that is no
    longer there raises `NotFoundError`.
    """

    name: str
    names: tuple[str, ...]
    size: int | None
    pieces: Callable[[], Iterator[bytes]]
    on_request: bool = False
    sha256: str | None = None


class KeptFiles(Struct, frozen=True, kw_only=True):
    """The files that are kept with a run, and what is there that can't be given back, with the reasons."""

    files: tuple[KeptFile, ...]
    omissions: tuple[Omission, ...] = ()


def folder_of(model: LoggedModel) -> str:
    """Return the folder in which a logged model is given back: its name, or its id where no folder can be called so."""
    return model.name if is_possible(model.name) else model.model_id


class RunReader(Protocol):
    """Answers questions about runs. A word means a run: an id, the beginning of one, a name, or ``latest``.

    Every method raises `NotFoundError` for what is not there, `InvalidValueError` for what can't be asked, and
    `RemoteError` when a server fails.
    """

    server: str | None
    """The address of the server; None for the own store."""

    def search(self, asked: RunQuery) -> RecordPage:
        """Return the records of a search, newest first unless ordered otherwise."""
        ...

    def record(self, word: str) -> RunRecord:
        """Return the record of a run, whole."""
        ...

    def last_points(self, word: str) -> Mapping[str, Metric]:
        """Return the last point of each metric of a run."""
        ...

    def history(self, word: str, name: str) -> Iterator[Metric]:
        """Yield the points of a metric of a run, however many there are."""
        ...

    def curve(self, word: str, name: str, limit: int) -> SampledHistory:
        """Return the course of a metric of a run as at most so many points."""
        ...

    def files(self, word: str) -> KeptFiles:
        """Return the files that are kept with a run, those of a logged model in a folder of its name."""
        ...
