"""Reads an ``mlruns`` folder, the file store of MLflow 1.x to 3.x."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from runner.base.tags import USER_TAG
from runner.errors import TransferError
from runner.importing.artifact_locations import find_folder, is_missing
from runner.importing.files import Whole, folders, links, read_meta, read_text, read_values, walk
from runner.importing.folder_lines import metric_points, model_points
from runner.importing.foreign import Files, ForeignModel, ForeignRun, Registration, Values, model_status, run_status
from runner.model import Report
from runner.store.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    LifecycleStage,
    LoggedModel,
    Metric,
    ModelOutput,
    ModelStage,
    ModelVersion,
    RegisteredModel,
    Run,
    RunInputs,
)

TRASH = ".trash"
REGISTRY = "models"
META = "meta.yaml"
_RESERVED = frozenset({"tags", "datasets", "traces", "models", "artifacts"})
_PLAIN_ID = re.compile(r"[\w-]{1,64}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_VERSION = re.compile(r"version-(\d{1,9})")
_DELETED_VERSION = "Deleted_Internal"

Text = str | int | float | bool


class _Experiment(Struct, frozen=True):
    name: Text
    lifecycle_stage: str = "active"
    creation_time: Whole | None = None
    last_update_time: Whole | None = None


class _Run(Struct, frozen=True):
    artifact_uri: str | None = None
    run_name: Text | None = None
    name: Text | None = None
    user_id: Text | None = None
    status: Text = 1
    start_time: Whole | None = None
    end_time: Whole | None = None
    deleted_time: Whole | None = None
    lifecycle_stage: str = "active"


class _Dataset(Struct, frozen=True):
    name: Text
    digest: Text
    source_type: Text | None = None
    source: Text | None = None
    schema: Text | None = None
    profile: Text | None = None


class _Link(Struct, frozen=True):
    source_type: str
    source_id: str
    tags: dict[str, Text] = {}
    step: Whole = 0


class _Model(Struct, frozen=True):
    name: Text
    artifact_location: str | None = None
    model_type: Text | None = None
    source_run_id: str | None = None
    status: Text = 1
    creation_timestamp: Whole = 0
    last_updated_timestamp: Whole = 0
    lifecycle_stage: str = "active"


class _Registered(Struct, frozen=True):
    name: Text
    description: Text | None = None
    creation_timestamp: Whole = 0
    last_updated_timestamp: Whole = 0


class _Version(Struct, frozen=True):
    version: Whole
    current_stage: Text | None = None
    description: Text | None = None
    source: str | None = None
    storage_location: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    creation_timestamp: Whole = 0
    last_updated_timestamp: Whole = 0


class FolderStore:
    """An ``mlruns`` folder."""

    def __init__(self, root: Path, report: Report) -> None:
        self.uri = root.as_uri()
        self._root = root
        self._reported: set[Path] = set()
        self._values = Values(report)

    def experiment_keys(self) -> Iterator[str]:
        """Yield the folders of the experiments, including deleted ones."""
        self._warn_of_links(self._root)
        active = [name for name in folders(self._root) if name not in (TRASH, REGISTRY)]
        for folder in (*active, *(f"{TRASH}/{name}" for name in folders(self._root / TRASH))):
            if (self._root / folder / META).exists():
                yield folder
            elif not folder.rpartition("/")[2].startswith("."):
                self._values.warn(f"The folder {self._root / folder} has no {META}, so it is not an experiment")

    def experiment(self, key: str) -> Experiment:
        """Return the experiment in a folder; the folder name is its id.

        Raises:
            TransferError: a file can't be read.
        """
        entry = self._root / key
        meta = read_meta(entry / META, _Experiment)
        created = meta.creation_time or int((entry / META).stat().st_mtime * 1000)
        deleted = key.startswith(f"{TRASH}/") or meta.lifecycle_stage == LifecycleStage.DELETED.value
        return Experiment(
            id=key,
            name=_text(meta.name),
            artifact_location="",
            lifecycle_stage=LifecycleStage.DELETED if deleted else LifecycleStage.ACTIVE,
            created_at=created,
            updated_at=meta.last_update_time or created,
            tags=self._values.tags(read_values(entry / "tags"), f"{entry}/tags"),
        )

    def run_keys(self, experiment: Experiment) -> Iterator[str]:
        """Yield the folders of the runs of an experiment."""
        self._warn_of_links(self._root / experiment.id)
        for name in folders(self._root / experiment.id):
            if name not in _RESERVED and (self._root / experiment.id / name / META).exists():
                yield name

    def run(self, experiment: Experiment, key: str) -> ForeignRun:
        """Return a run without its metric points.

        Raises:
            TransferError: a file can't be read.
        """
        folder = self._root / experiment.id / key
        meta = read_meta(folder / META, _Run)
        status = run_status(meta.status)
        if status is None:
            raise TransferError("A run has an unknown status", context=f"{folder / META}: status {meta.status}")
        tags = self._values.tags(read_values(folder / "tags"), f"{folder}/tags")
        deleted = meta.lifecycle_stage == LifecycleStage.DELETED.value
        run = Run(
            run_id=key,
            experiment_id=experiment.id,
            name=_text(meta.run_name) or _text(meta.name),
            user=_text(meta.user_id) or tags.get(USER_TAG, ""),
            status=status,
            started_at=meta.start_time or 0,
            ended_at=meta.end_time,
            lifecycle_stage=LifecycleStage.DELETED if deleted else LifecycleStage.ACTIVE,
            artifact_uri=meta.artifact_uri or "",
            params=self._values.params(read_values(folder / "params"), f"{folder}/params"),
            tags=tags,
        )
        return ForeignRun(
            run=run,
            deleted_at=(meta.deleted_time or meta.end_time or run.started_at) if deleted else None,
            inputs=self._inputs(experiment, folder),
            outputs=_outputs(folder / "outputs"),
            files=self._files(run.artifact_uri, key, folder / "artifacts"),
        )

    def points(self, experiment: Experiment, key: str) -> Iterator[Metric]:
        """Yield every point of every metric of a run; skips an incomplete last line with a warning."""
        for name, path in walk(self._root / experiment.id / key / "metrics"):
            yield from metric_points(name, path, self._values.warn)

    def model_keys(self, experiment: Experiment) -> Iterator[str]:
        """Yield the folders of the logged models of an experiment."""
        base = self._root / experiment.id / "models"
        for name in folders(base):
            if (base / name / META).exists():
                yield name

    def model(self, experiment: Experiment, key: str) -> ForeignModel:
        """Return a logged model.

        Raises:
            TransferError: a file can't be read.
        """
        folder = self._root / experiment.id / "models" / key
        meta = read_meta(folder / META, _Model)
        points = [point for name, path in walk(folder / "metrics") for point in model_points(name, path)]
        model = LoggedModel(
            model_id=folder.name,
            experiment_id=experiment.id,
            name=_text(meta.name),
            model_type=_text(meta.model_type),
            source_run_id=meta.source_run_id,
            artifact_uri=meta.artifact_location or "",
            status=model_status(meta.status),
            created_at=meta.creation_timestamp,
            updated_at=meta.last_updated_timestamp,
            params=self._values.params(read_values(folder / "params"), f"{folder}/params"),
            tags=self._values.tags(read_values(folder / "tags"), f"{folder}/tags"),
            metrics=tuple(points),
        )
        deleted = meta.lifecycle_stage == LifecycleStage.DELETED.value
        files = self._files(model.artifact_uri, folder.name, folder / "artifacts")
        return ForeignModel(model=model, deleted=deleted, files=files)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def registration_keys(self) -> Iterator[str]:
        """Yield the folders of the registered models."""
        for name in folders(self._root / REGISTRY):
            if (self._root / REGISTRY / name / META).exists():
                yield name

    def registration(self, key: str) -> Registration:
        """Return a registered model with its versions.

        Raises:
            TransferError: a file can't be read.
        """
        folder = self._root / REGISTRY / key
        meta = read_meta(folder / META, _Registered)
        metas = {
            name: read_meta(folder / name / META, _Version) for name in folders(folder) if _VERSION.fullmatch(name)
        }
        name = _text(meta.name)
        versions = [
            self._version(name, folder / entry, version)
            for entry, version in metas.items()
            if version.current_stage != _DELETED_VERSION
        ]
        model = RegisteredModel(
            name=name,
            description=_text(meta.description) or None,
            created_at=meta.creation_timestamp,
            updated_at=meta.last_updated_timestamp,
            tags=self._values.tags(read_values(folder / "tags"), f"{folder}/tags"),
            aliases=_aliases(folder / "aliases"),
        )
        last = max((version.version for version in metas.values()), default=0)
        ordered = sorted(versions, key=lambda version: version.version)
        return Registration(model=model, versions=tuple(ordered), last_version=last)

    def _warn_of_links(self, folder: Path) -> None:
        for name in links(folder):
            if (folder / name) not in self._reported:
                self._reported.add(folder / name)
                self._values.warn(f"Skipped: {folder / name} is a link, which is not followed", "Import its target.")

    def _inputs(self, experiment: Experiment, folder: Path) -> RunInputs:
        datasets, models = [], []
        for name in folders(folder / "inputs"):
            entry = folder / "inputs" / name / META
            link = read_meta(entry, _Link)
            if not _PLAIN_ID.fullmatch(link.source_id):
                raise TransferError("A file of the store has an invalid id", context=f"{entry}: {link.source_id[:80]}")
            if link.source_type != "DATASET":
                models.append(link.source_id)
                continue
            base = self._root / experiment.id / "datasets"
            if link.source_id in folders(base):
                datasets.append(self._dataset(base / link.source_id / META, link))
            else:
                self._values.warn(f"Skipped: the dataset that {entry} names is not in {base}")
        return RunInputs(datasets=tuple(datasets), model_ids=tuple(models))

    def _dataset(self, entry: Path, link: _Link) -> DatasetInput:
        meta = read_meta(entry, _Dataset)
        dataset = Dataset(
            name=_text(meta.name),
            digest=_text(meta.digest),
            source_type=_text(meta.source_type),
            source=self._values.text(_text(meta.source)),
            schema=_text(meta.schema) or None,
            profile=_text(meta.profile) or None,
        )
        return DatasetInput(dataset=dataset, tags={name: _text(value) for name, value in sorted(link.tags.items())})

    def _version(self, name: str, folder: Path, meta: _Version) -> ModelVersion:
        source = self._values.text(meta.source or "")
        stage = next((stage for stage in ModelStage if stage.value == _text(meta.current_stage)), ModelStage.NONE)
        return ModelVersion(
            name=name,
            version=meta.version,
            stage=stage,
            description=_text(meta.description) or None,
            source=source,
            location=self._values.text(meta.storage_location or "") or source,
            run_id=meta.run_id or None,
            run_link=meta.run_link or None,
            model_id=meta.model_id or None,
            created_at=meta.creation_timestamp,
            updated_at=meta.last_updated_timestamp,
            tags=self._values.tags(read_values(folder / "tags"), f"{folder}/tags"),
        )

    def _files(self, uri: str, owner: str, own: Path) -> Files:
        """Return the artifact location; the folder beside it wins if the URI points into this store or its old path."""
        bases = (self._root.parent, Path.cwd())
        beside = own if own.is_dir() and not own.is_symlink() else None
        if beside and uri.rstrip("/").endswith(f"/{owner}/artifacts") and any(beside.iterdir()):
            return Files(uri=uri, folder=beside)
        found = find_folder(uri, owner, bases) or beside
        return Files(uri=uri, folder=found, is_missing=found is None and is_missing(uri, bases))


def _outputs(base: Path) -> tuple[ModelOutput, ...]:
    """Return the models that a run made. MLflow versions spell their ids differently; the folder name is the id."""
    names = [name for name in folders(base) if _MODEL_ID.fullmatch(name)]
    return tuple(ModelOutput(model_id=name, step=read_meta(base / name / META, _Link).step) for name in names)


def _aliases(base: Path) -> Mapping[str, int]:
    found = {}
    for alias, path in walk(base):
        word = read_text(path).strip()
        if not word.isdecimal():
            raise TransferError("An alias refers to no version", context=f"{path}:1: {word[:40]}")
        found[alias] = int(word)
    return found


def _text(value: Text | None) -> str:
    return "" if value is None else str(value)
