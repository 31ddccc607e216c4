"""Defines the interface for reading runs, independent of where they are recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from runner.model import RunRecord
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import Omission
from runner.store.downsampling import SampledHistory
from runner.store.entities import LoggedModel, Metric
from runner.store.search import RecordPage


class ProjectScope(Struct, frozen=True, kw_only=True):
    """The project of a folder, as its runs are recorded: the source, or the remote repository and the subdirectory.

    A source or subdirectory below the project's own belongs to it as well. ``is_certain`` is False for a folder without
    a manifest, which is a project only if it has runs.
    """

    source: str
    remote: str | None = None
    subdirectory: str = ""
    is_certain: bool = True


class RunQuery(Struct, frozen=True, kw_only=True):
    """A search for runs; ``experiment`` is a name or an id, filter and order use MLflow's search language.

    With ``project`` only its runs are returned; with ``folded`` no runs whose parent is in the store.
    """

    experiment: str | None = None
    filter: str = ""
    order_by: tuple[str, ...] = ()
    limit: int = 1000
    project: ProjectScope | None = None
    folded: bool = False


class ArtifactEntry(Struct, frozen=True, kw_only=True):
    """A file that is kept with a run; the size is in bytes, None if the server does not say it."""

    path: str
    size: int | None


class DatasetEntry(Struct, frozen=True, kw_only=True):
    """A dataset that a run logged as an input; ``context`` is its purpose, such as ``training``."""

    name: str
    digest: str
    context: str | None = None
    source: str = ""


class ModelEntry(Struct, frozen=True, kw_only=True):
    """A model that a run logged."""

    model_id: str
    name: str
    type: str = ""
    status: str = ""


class VersionEntry(Struct, frozen=True, kw_only=True):
    """A version of a registered model that was made from a run."""

    name: str
    version: int
    stage: str = "None"
    aliases: tuple[str, ...] = ()


class RelatedRun(Struct, frozen=True, kw_only=True):
    """The parent or a child of a run; name and status are None if the run is not in the store."""

    run_id: str
    run_name: str | None = None
    status: str | None = None


class RunRelations(Struct, frozen=True, kw_only=True):
    """Everything that belongs to a run besides its record."""

    artifacts: tuple[ArtifactEntry, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()
    logged_models: tuple[ModelEntry, ...] = ()
    model_versions: tuple[VersionEntry, ...] = ()
    parent: RelatedRun | None = None
    children: tuple[RelatedRun, ...] = ()
    note: str | None = None


class RunDescription(RunRecord, frozen=True, kw_only=True):
    """A record with everything that belongs to the run: the JSON of ``proj show --json``."""

    artifacts: tuple[ArtifactEntry, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()
    logged_models: tuple[ModelEntry, ...] = ()
    model_versions: tuple[VersionEntry, ...] = ()
    parent: RelatedRun | None = None
    children: tuple[RelatedRun, ...] = ()
    note: str | None = None


def description_of(record: RunRecord, relations: RunRelations) -> RunDescription:
    """Return a record together with what belongs to the run."""
    fields = {name: getattr(record, name) for name in RunRecord.__struct_fields__}
    more = {name: getattr(relations, name) for name in RunRelations.__struct_fields__}
    return RunDescription(**fields, **more)


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
    """Reads runs. The argument ``reference`` selects a run: an id, its beginning, a name, ``latest``, ``@TAG``.

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

    def own_id(self, reference: str) -> str:
        """Return the id that a run has in the local store, also if it was pushed to a server; else its id."""
        ...

    def relations(self, reference: str) -> RunRelations:
        """Return what belongs to a run besides its record: files, datasets, models, parent and children."""
        ...

    def children(self, parents: Sequence[str]) -> tuple[RunRecord, ...]:
        """Return the records of the runs that are nested directly in one of these runs, oldest first."""
        ...

    def count_children(self, parents: Sequence[str]) -> Mapping[str, int]:
        """Return how many runs are nested directly in each of these runs; runs without any are omitted."""
        ...

    def first_metric(self, reference: str) -> str | None:
        """Return the metric that a run logged first, or None if it has no metrics."""
        ...

    def output(self, reference: str) -> Iterator[bytes]:
        """Yield the output of a run's command in pieces."""
        ...

    def files(self, reference: str) -> RunArtifacts:
        """Return the files kept with a run; files of a logged model are in a folder with its name."""
        ...
