"""Runs as objects: their parameters, histories and artifacts, and how a notebook shows them."""

import atexit
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, cast, overload

from runner.base.files import remove_tree
from runner.base.suggestions import suggestion
from runner.errors import InvalidValueError, NotFoundError
from runner.interactive import html
from runner.interactive.reading import open_reader
from runner.model import RunRecord
from runner.runs.reader import RunArtifact, RunDescription
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import write_file
from runner.store.entities import Metric

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 10
"""Artifacts that an error names."""


class RunAccess:
    """What a run gives besides its record. ``tracking_uri`` is the server that has it, ``""`` the local store."""

    __slots__ = ()

    @property
    def params(self) -> dict[str, str]:
        """The values of the parameters by name."""
        return {one.name: one.value for one in cast("Run", self).parameters}

    def history(self, name: str) -> "pd.DataFrame | list[Metric]":
        """Return the points of a metric by step: a DataFrame if pandas is installed, else a list.

        The columns are ``step``, ``time`` and ``value``; the points of a list have ``step``, ``timestamp`` in
        milliseconds since 1970, and ``value``.

        Raises:
            NotFoundError: the run has no such metric.
            ProjError: the server fails.
        """
        run = cast("Run", self)
        with open_reader(run.tracking_uri) as reader:
            if name not in reader.last_points(_id(run)):
                hint = suggestion(name, run.metrics)
                raise NotFoundError(f"The run {_id(run)[:8]} has no metric '{name}'", hint=hint)
            points = list(reader.history(_id(run), name))
        try:
            import pandas as pd
        except ImportError:
            return points
        columns = {
            "step": [point.step for point in points],
            "time": pd.to_datetime([point.timestamp for point in points], unit="ms", utc=True),
            "value": [point.value for point in points],
        }
        return pd.DataFrame(columns)

    def artifact(self, path: str = "") -> Path:
        """Return a copy of an artifact, a file or a folder; without a path the folder of all artifacts.

        The copy is compared with the digest that was recorded, and removed when the program ends.

        Raises:
            NotFoundError: the run has no such artifact.
            InvalidValueError: the artifact is damaged.
            ProjError: the server fails.
        """
        run, path = cast("Run", self), path.strip("/")
        folder = _copies() / _id(run)
        with open_reader(run.tracking_uri) as reader:
            kept = reader.files(_id(run)).files
            files = [file for file in kept if _is_at(file, path)]
            if not files:
                names = ", ".join(file.name for file in kept[:_NAMED]) or "none"
                near = suggestion(path, [file.name for file in kept])
                raise NotFoundError(f"The run {_id(run)[:8]} has no artifact '{path}'", hint=near or f"It has {names}.")
            for file in files:
                _copy(file, folder)
        return folder.joinpath(*path.split("/")) if path else folder

    def __repr__(self) -> str:
        """Return a short text: id, name, status and the first metrics."""
        return html.short_text(cast("Run", self))

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks; every text in it is escaped."""
        return html.run_html(cast("Run", self))


class Run(RunAccess, RunRecord, frozen=True, kw_only=True):
    """The record of a run, with its histories and artifacts."""

    tracking_uri: str = ""


class DescribedRun(RunAccess, RunDescription, frozen=True, kw_only=True):
    """A run with its files, datasets, models, parent and nested runs."""

    tracking_uri: str = ""


class RunList(list[Run]):
    """Runs in the order of a search."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Run: ...

    @overload
    def __getitem__(self, index: slice, /) -> "RunList": ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> "Run | RunList":
        """Return a run, or a list of them."""
        return RunList(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        """Return a line for each of the first runs."""
        return html.list_text(self)

    def _repr_html_(self) -> str:
        """Return a table for notebooks; every text in it is escaped."""
        return html.list_html(self)


def run_of(record: RunRecord, tracking_uri: str = "") -> Run:
    """Return the run of a record that was read from a server, or from the local store."""
    fields = {name: getattr(record, name) for name in RunRecord.__struct_fields__}
    return Run(**fields, tracking_uri=tracking_uri)


def runs_of(records: Iterable[RunRecord], tracking_uri: str) -> RunList:
    """Return the runs of records."""
    return RunList(run_of(record, tracking_uri) for record in records)


def described_run(description: RunDescription, tracking_uri: str) -> DescribedRun:
    """Return the run of a description."""
    fields = {name: getattr(description, name) for name in RunDescription.__struct_fields__}
    return DescribedRun(**fields, tracking_uri=tracking_uri)


def _id(run: RunRecord) -> str:
    if run.run_id is None:
        raise InvalidValueError("this record is of a plan, which has no data")
    return run.run_id


def _is_at(file: RunArtifact, path: str) -> bool:
    names = tuple(path.split("/"))
    if path in (file.name, "/".join(file.names)):
        return True
    return not file.on_request and (not path or file.names[: len(names)] == names)


@cache
def _copies() -> Path:
    """Return the folder for copies of this process."""
    folder = Path(tempfile.mkdtemp(prefix="proj-artifacts-"))
    atexit.register(remove_tree, folder)
    return folder


def _copy(file: RunArtifact, folder: Path) -> None:
    if not all(map(is_possible, file.names)):
        raise InvalidValueError(f"'{file.name}' is not a possible name of a file")
    write_file(folder, file.names, _verified(file))


def _verified(file: RunArtifact) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in file.pieces():
        digest.update(piece)
        yield piece
    if file.sha256 not in (None, digest.hexdigest()):
        raise InvalidValueError(f"'{file.name}' is damaged: it differs from the digest recorded at the end of the run")
