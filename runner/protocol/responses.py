"""Builds the responses of MLflow's REST protocol; field names are those of MLflow's ``service.proto``."""

import math
from collections.abc import Mapping

from msgspec import Struct

from runner.model import RunStatus
from runner.protocol.requests import Long, ModelInput, ModelOutput, SentDataset, SentDatasetInput, Tag
from runner.store import entities

SERVER_VERSION = "0.1.0"
"""The response of ``/version`` of `proj server`. MLflow clients take it for MLflow's version, and send no traces to one
so old; proj recognizes its own server by it."""


class MetricPoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a metric; NaN and the infinities are strings."""

    key: str
    value: float | str
    timestamp: Long
    step: Long
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


class ExperimentSchema(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An experiment in a response."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: tuple[Tag, ...] = ()


class RunInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The attributes of a run in a response."""

    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str
    lifecycle_stage: str


class RunData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The metrics, parameters and tags of a run in a response."""

    metrics: tuple[MetricPoint, ...] = ()
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class RunInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The inputs of a run in a response."""

    dataset_inputs: tuple[SentDatasetInput, ...] = ()
    model_inputs: tuple[ModelInput, ...] = ()


class RunOutputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outputs of a run in a response."""

    model_outputs: tuple[ModelOutput, ...] = ()


class RunSchema(Struct, frozen=True, kw_only=True):
    """A run in a response."""

    info: RunInfo
    data: RunData
    inputs: RunInputs = RunInputs()
    outputs: RunOutputs = RunOutputs()


class FileSchema(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or folder of artifacts in a response; the path is relative to the requested root."""

    path: str
    is_dir: bool | None = None
    file_size: int | None = None


class ModelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The attributes of a logged model in a response."""

    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str = ""
    source_run_id: str = ""
    tags: tuple[Tag, ...] = ()


class ModelData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parameters and metrics of a logged model in a response."""

    params: tuple[Tag, ...] = ()
    metrics: tuple[MetricPoint, ...] = ()


class ModelSchema(Struct, frozen=True, kw_only=True):
    """A logged model in a response."""

    info: ModelInfo
    data: ModelData


def number(value: float) -> float | str:
    """Convert a number for JSON, which has no NaN and no infinities."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def tags(values: Mapping[str, str]) -> tuple[Tag, ...]:
    """Convert a mapping to the pairs of the protocol."""
    return tuple(Tag(key, value) for key, value in values.items())


def experiment(found: entities.Experiment) -> ExperimentSchema:
    """Build the response for an experiment."""
    return ExperimentSchema(
        experiment_id=found.id,
        name=found.name,
        artifact_location=found.artifact_location,
        lifecycle_stage=found.lifecycle_stage.value,
        last_update_time=found.updated_at,
        creation_time=found.created_at,
        tags=tags(found.tags),
    )


def status(found: RunStatus) -> str:
    """Convert a status; a lost run is FAILED, because MLflow has no such status."""
    return RunStatus.FAILED.value if found is RunStatus.LOST else found.value


def run_info(found: entities.Run) -> RunInfo:
    """Build the response for the attributes of a run."""
    return RunInfo(
        run_id=found.run_id,
        run_uuid=found.run_id,
        run_name=found.name,
        experiment_id=found.experiment_id,
        user_id=found.user,
        status=status(found.status),
        start_time=found.started_at,
        end_time=found.ended_at,
        artifact_uri=found.artifact_uri,
        lifecycle_stage=found.lifecycle_stage.value,
    )


def run(found: entities.Run, inputs: RunInputs | None = None, outputs: RunOutputs | None = None) -> RunSchema:
    """Build the response for a run with its latest values."""
    return RunSchema(
        info=run_info(found),
        data=RunData(
            metrics=tuple(metric(value) for value in found.metrics.values()),
            params=tags(found.params),
            tags=tags(found.tags),
        ),
        inputs=inputs or RunInputs(),
        outputs=outputs or RunOutputs(),
    )


def metric(found: entities.Metric, *, run_id: str | None = None, model_id: str | None = None) -> MetricPoint:
    """Build the response for one value of a metric, with its run or model when the request does not name it."""
    return MetricPoint(
        key=found.key,
        value=number(found.value),
        timestamp=found.timestamp,
        step=found.step,
        model_id=model_id or found.model_id,
        dataset_name=found.dataset_name,
        dataset_digest=found.dataset_digest,
        run_id=run_id or found.run_id,
    )


def dataset_input(found: entities.DatasetInput) -> SentDatasetInput:
    """Build the response for a dataset input of a run."""
    dataset = found.dataset
    return SentDatasetInput(
        dataset=SentDataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type=dataset.source_type,
            source=dataset.source,
            schema=dataset.schema,
            profile=dataset.profile,
        ),
        tags=tags(found.tags),
    )


def run_inputs(found: entities.RunInputs) -> RunInputs:
    """Build the response for the inputs of a run."""
    return RunInputs(
        dataset_inputs=tuple(dataset_input(one) for one in found.datasets),
        model_inputs=tuple(ModelInput(model_id=model_id) for model_id in found.model_ids),
    )


def run_outputs(found: tuple[entities.ModelOutput, ...]) -> RunOutputs:
    """Build the response for the models that a run created."""
    return RunOutputs(model_outputs=tuple(ModelOutput(model_id=one.model_id, step=one.step) for one in found))


def model(found: entities.LoggedModel) -> ModelSchema:
    """Build the response for a logged model."""
    return ModelSchema(
        info=ModelInfo(
            model_id=found.model_id,
            experiment_id=found.experiment_id,
            name=found.name,
            creation_timestamp_ms=found.created_at,
            last_updated_timestamp_ms=found.updated_at,
            artifact_uri=found.artifact_uri,
            status=found.status.value,
            model_type=found.model_type,
            source_run_id=found.source_run_id or "",
            tags=tags(found.tags),
        ),
        data=ModelData(
            params=tags(found.params), metrics=tuple(metric(point, model_id=found.model_id) for point in found.metrics)
        ),
    )
