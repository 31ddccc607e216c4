"""Reads the SQLite database of an MLflow server or client, of any schema since 1.0."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from runner.base.plurals import counted
from runner.base.tags import USER_TAG
from runner.errors import TransferError
from runner.importing.artifact_locations import find_folder, is_missing
from runner.importing.database_copy import DatabaseCopy, Fields
from runner.importing.foreign import (
    Files,
    ForeignModel,
    ForeignRun,
    Registration,
    Values,
    as_measured,
    model_status,
    run_status,
)
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

_DEFAULT_WORKSPACE = "default"
_PROXIED = "mlartifacts"
"""Default artifact folder of a server, relative to the folder that it was started in."""
_DELETED_VERSION = "Deleted_Internal"
_RUN = (
    *("run_uuid", "name", "user_id", "status", "start_time", "end_time", "deleted_time", "lifecycle_stage"),
    *("artifact_uri", "source_name", "entry_point_name"),
)
_EXPERIMENT = ("experiment_id", "name", "lifecycle_stage", "creation_time", "last_update_time")
_DATASET = ("name", "digest", "dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile")
_MODEL = (
    *("model_id", "name", "artifact_location", "creation_timestamp_ms", "last_updated_timestamp_ms", "status"),
    *("lifecycle_stage", "model_type", "source_run_id"),
)
_MODEL_METRIC = (
    *("metric_name", "metric_timestamp_ms", "metric_step", "metric_value", "run_id", "dataset_name"),
    "dataset_digest",
)
_VERSION = (
    *("version", "creation_time", "last_updated_time", "description", "current_stage", "source", "run_id", "run_link"),
    "storage_location",
)


class DatabaseStore:
    """An SQLite database of MLflow.

    Args:
        path: the file.
        report: receives a warning for each skipped item.
        proxied: the folder behind the artifact proxy of the server that used the database.
    """

    def __init__(self, path: Path, report: Report, proxied: Path | None = None) -> None:
        self.uri = f"sqlite:///{path}"
        self._copy = DatabaseCopy(path)
        if not {"experiment_id", "name"} <= self._copy.columns("experiments") or not {
            "run_uuid",
            "experiment_id",
        } <= self._copy.columns("runs"):
            self._copy.close()
            raise TransferError(
                f"'{path}' is not an MLflow database", hint="An MLflow database has the tables experiments and runs."
            )
        self._values = Values(report)
        self._bases = (path.parent, Path.cwd())
        beside = path.parent / _PROXIED
        self._proxied = proxied or (beside if beside.is_dir() else None)
        self._warn_of_the_rest()

    def experiment_keys(self) -> Iterator[str]:
        """Yield the ids of the experiments, including deleted ones."""
        for row in self._copy.rows("experiments", ("experiment_id",), **self._of_workspace("experiments")):
            yield _text(row["experiment_id"])

    def experiment(self, key: str) -> Experiment:
        """Return an experiment.

        Raises:
            TransferError: a row can't be imported.
        """
        row, owner = self._copy.row("experiments", _EXPERIMENT, experiment_id=key), f"the experiment {key}"
        created = self._whole(row, "creation_time", "experiments", owner) or 0
        return Experiment(
            id=key,
            name=_text(row["name"]),
            artifact_location="",
            lifecycle_stage=_stage(row["lifecycle_stage"]),
            created_at=created,
            updated_at=self._whole(row, "last_update_time", "experiments", owner) or created,
            tags=self._values.tags(self._pairs("experiment_tags", experiment_id=key), owner),
        )

    def run_keys(self, experiment: Experiment) -> Iterator[str]:
        """Yield the ids of the runs of an experiment."""
        for row in self._copy.rows("runs", ("run_uuid",), experiment_id=experiment.id):
            yield str(row["run_uuid"])

    def run(self, experiment: Experiment, key: str) -> ForeignRun:
        """Return a run without its metric points.

        Raises:
            TransferError: a row can't be imported.
        """
        row = self._copy.row("runs", _RUN, run_uuid=key)
        owner = f"the run {key}"
        status = run_status(row["status"])
        if status is None:
            raise self._copy.fault("runs", owner, f"status {row['status']}")
        tags = self._values.tags(self._pairs("tags", run_uuid=key), owner)
        deleted = row["lifecycle_stage"] == LifecycleStage.DELETED.value
        run = Run(
            run_id=key,
            experiment_id=experiment.id,
            name=_text(row["name"]),
            user=_text(row["user_id"]) or tags.get(USER_TAG, ""),
            status=status,
            started_at=self._whole(row, "start_time", "runs", owner) or 0,
            ended_at=self._whole(row, "end_time", "runs", owner),
            lifecycle_stage=LifecycleStage.DELETED if deleted else LifecycleStage.ACTIVE,
            artifact_uri=_text(row["artifact_uri"]),
            params=self._values.params(self._pairs("params", run_uuid=key), owner),
            tags=tags,
        )
        deleted_at = self._whole(row, "deleted_time", "runs", owner) or run.ended_at or run.started_at
        return ForeignRun(
            run=run,
            deleted_at=deleted_at if deleted else None,
            inputs=self._inputs(key),
            outputs=self._outputs(key),
            files=self._files(run.artifact_uri, key),
        )

    def points(self, experiment: Experiment, key: str) -> Iterator[Metric]:  # noqa: ARG002  files need the experiment
        """Yield every point of every metric of a run."""
        usable: dict[str, bool] = {}
        owner = f"the run {key}"
        for row in self._copy.rows("metrics", ("key", "value", "timestamp", "step", "is_nan"), run_uuid=key):
            name = _text(row["key"])
            if name not in usable:
                usable[name] = self._values.is_usable("metric", name, "", owner)
            if not usable[name]:
                continue
            timestamp, step = (self._whole(row, column, "metrics", owner) or 0 for column in ("timestamp", "step"))
            value = row["value"]
            if not isinstance(value, float | int):
                raise self._copy.fault("metrics", f"{owner}, {name}", f"value {value!r}")
            yield Metric(
                key=name, value=math.nan if row["is_nan"] else as_measured(value), timestamp=timestamp, step=step
            )

    def model_keys(self, experiment: Experiment) -> Iterator[str]:
        """Yield the ids of the logged models of an experiment."""
        for row in self._copy.rows("logged_models", ("model_id",), experiment_id=experiment.id):
            yield _text(row["model_id"])

    def model(self, experiment: Experiment, key: str) -> ForeignModel:
        """Return a logged model.

        Raises:
            TransferError: a row can't be imported.
        """
        row, model_id = self._copy.row("logged_models", _MODEL, model_id=key), key
        owner = f"the model {model_id}"
        model = LoggedModel(
            model_id=model_id,
            experiment_id=experiment.id,
            name=_text(row["name"]),
            model_type=_text(row["model_type"]),
            source_run_id=_text(row["source_run_id"]) or None,
            artifact_uri=_text(row["artifact_location"]),
            status=model_status(row["status"]),
            created_at=self._whole(row, "creation_timestamp_ms", "logged_models", owner) or 0,
            updated_at=self._whole(row, "last_updated_timestamp_ms", "logged_models", owner) or 0,
            params=self._values.params(self._pairs("logged_model_params", "param_key", model_id=model_id), owner),
            tags=self._values.tags(self._pairs("logged_model_tags", "tag_key", model_id=model_id), owner),
            metrics=tuple(self._model_metrics(model_id)),
        )
        return ForeignModel(
            model=model,
            deleted=_stage(row["lifecycle_stage"]) is LifecycleStage.DELETED,
            files=self._files(model.artifact_uri, model_id),
        )

    def close(self) -> None:
        """Delete the copy of the database."""
        self._copy.close()

    def registration_keys(self) -> Iterator[str]:
        """Yield the names of the registered models."""
        for row in self._copy.rows("registered_models", ("name",), **self._of_workspace("registered_models")):
            yield _text(row["name"])

    def registration(self, key: str) -> Registration:
        """Return a registered model with its versions.

        Raises:
            TransferError: a row can't be imported.
        """
        wanted, name = ("description", "creation_time", "last_updated_time"), key
        row = self._copy.row("registered_models", wanted, name=key, **self._of_workspace("registered_models"))
        owner = f"the registered model {name}"
        rows = list(self._copy.rows("model_versions", _VERSION, name=name, **self._of_workspace("model_versions")))
        versions = [self._version(name, one) for one in rows if one["current_stage"] != _DELETED_VERSION]
        aliases = self._copy.rows("registered_model_aliases", ("alias", "version"), name=name)
        model = RegisteredModel(
            name=name,
            description=_text(row["description"]) or None,
            created_at=self._whole(row, "creation_time", "registered_models", owner) or 0,
            updated_at=self._whole(row, "last_updated_time", "registered_models", owner) or 0,
            tags=self._values.tags(self._pairs("registered_model_tags", name=name), owner),
            aliases={
                _text(one["alias"]): self._whole(one, "version", "registered_model_aliases", owner) or 0
                for one in aliases
            },
        )
        last = max((self._whole(one, "version", "model_versions", owner) or 0 for one in rows), default=0)
        ordered = sorted(versions, key=lambda version: version.version)
        return Registration(model=model, versions=tuple(ordered), last_version=last)

    def _inputs(self, run_id: str) -> RunInputs:
        datasets = []
        wanted = ("input_uuid", "source_id")
        links = self._copy.rows("inputs", wanted, source_type="DATASET", destination_type="RUN", destination_id=run_id)
        for link in list(links):
            tags = self._pairs("input_tags", "name", input_uuid=link["input_uuid"])
            rows = self._copy.rows("datasets", _DATASET, dataset_uuid=link["source_id"])
            datasets += [DatasetInput(dataset=self._dataset(row), tags=dict(sorted(tags))) for row in rows]
        models = self._copy.rows("inputs", ("destination_id",), source_type="RUN_INPUT", source_id=run_id)
        return RunInputs(datasets=tuple(datasets), model_ids=tuple(_text(row["destination_id"]) for row in models))

    def _dataset(self, row: Fields) -> Dataset:
        return Dataset(
            name=_text(row["name"]),
            digest=_text(row["digest"]),
            source_type=_text(row["dataset_source_type"]),
            source=self._values.text(_text(row["dataset_source"])),
            schema=_text(row["dataset_schema"]) or None,
            profile=_text(row["dataset_profile"]) or None,
        )

    def _outputs(self, run_id: str) -> tuple[ModelOutput, ...]:
        rows = self._copy.rows("inputs", ("destination_id", "step"), source_type="RUN_OUTPUT", source_id=run_id)
        return tuple(
            ModelOutput(model_id=_text(row["destination_id"]), step=self._whole(row, "step", "inputs", run_id) or 0)
            for row in rows
        )

    def _model_metrics(self, model_id: str) -> Iterator[Metric]:
        for row in self._copy.rows("logged_model_metrics", _MODEL_METRIC, model_id=model_id):
            value = row["metric_value"]
            yield Metric(
                key=_text(row["metric_name"]),
                value=as_measured(value) if isinstance(value, float | int) else math.nan,
                timestamp=self._whole(row, "metric_timestamp_ms", "logged_model_metrics", model_id) or 0,
                step=self._whole(row, "metric_step", "logged_model_metrics", model_id) or 0,
                run_id=_text(row["run_id"]),
                dataset_name=_text(row["dataset_name"]) or None,
                dataset_digest=_text(row["dataset_digest"]) or None,
            )

    def _version(self, name: str, row: Fields) -> ModelVersion:
        owner = f"version {row['version']} of {name}"
        source = self._values.text(_text(row["source"]))
        return ModelVersion(
            name=name,
            version=self._whole(row, "version", "model_versions", owner) or 0,
            stage=next((stage for stage in ModelStage if stage.value == row["current_stage"]), ModelStage.NONE),
            description=_text(row["description"]) or None,
            source=source,
            location=self._values.text(_text(row["storage_location"])) or source,
            run_id=_text(row["run_id"]) or None,
            run_link=_text(row["run_link"]) or None,
            model_id=None,
            created_at=self._whole(row, "creation_time", "model_versions", owner) or 0,
            updated_at=self._whole(row, "last_updated_time", "model_versions", owner) or 0,
            tags=self._values.tags(self._pairs("model_version_tags", name=name, version=row["version"]), owner),
        )

    def _files(self, uri: str, owner: str) -> Files:
        folder = find_folder(uri, owner, self._bases, self._proxied)
        lost = folder is None and is_missing(uri, self._bases, self._proxied)
        return Files(uri=uri, folder=folder, is_missing=lost)

    def _pairs(self, table: str, key: str = "key", **where: object) -> Iterable[tuple[str, str]]:
        value = key.replace("key", "value") if "key" in key else "value"
        rows = self._copy.rows(table, (key, value), **where)
        return [(_text(row[key]), _text(row[value])) for row in rows]

    def _of_workspace(self, table: str) -> Mapping[str, object]:
        """Return the condition for the default workspace; empty before MLflow 3.10, which introduced workspaces."""
        return {"workspace": _DEFAULT_WORKSPACE} if "workspace" in self._copy.columns(table) else {}

    def _warn_of_the_rest(self) -> None:
        others: dict[str, int] = defaultdict(int)
        if "workspace" in self._copy.columns("experiments"):
            for row in self._copy.rows("experiments", ("workspace",)):
                if row["workspace"] != _DEFAULT_WORKSPACE:
                    others[_text(row["workspace"])] += 1
        for workspace, count in sorted(others.items()):
            self._values.warn(f"The workspace '{workspace}' with {counted(count, 'experiment')} is skipped")
        traces = self._copy.count("trace_info")
        if traces:
            self._values.warn(f"{traces} traces are skipped: proj does not store traces")

    def _whole(self, row: Fields, column: str, table: str, owner: str) -> int | None:
        value = row[column]
        if value is None or isinstance(value, int):
            return value
        raise self._copy.fault(table, owner, f"{column} {value!r}"[:200])


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _stage(text: object) -> LifecycleStage:
    return LifecycleStage.DELETED if text == LifecycleStage.DELETED.value else LifecycleStage.ACTIVE
