"""What clients of MLflow's REST protocol are told; the names of the fields are those of MLflow's ``service.proto``."""

import math
from collections.abc import Mapping

from msgspec import Struct

from runner.model import RunStatus
from runner.protocol.requests import Long, ModelInput, ModelOutput, SentDataset, SentDatasetInput, Tag
from runner.store import entities


class MetricPoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A metric as it travels; NaN and the infinities are strings."""

    key: str
    value: float | str
    timestamp: Long
    step: Long
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


class ExperimentShape(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An experiment as it travels."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: tuple[Tag, ...] = ()


class RunInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The head of a run as it travels."""

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
    """The values of a run as they travel."""

    metrics: tuple[MetricPoint, ...] = ()
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class RunInputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run read, as it travels."""

    dataset_inputs: tuple[SentDatasetInput, ...] = ()
    model_inputs: tuple[ModelInput, ...] = ()


class RunOutputs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run made, as it travels."""

    model_outputs: tuple[ModelOutput, ...] = ()


class RunShape(Struct, frozen=True, kw_only=True):
    """A run as it travels."""

    info: RunInfo
    data: RunData
    inputs: RunInputs = RunInputs()
    outputs: RunOutputs = RunOutputs()


class FileShape(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or folder among artifacts as it travels; the path is relative to what was asked for."""

    path: str
    is_dir: bool | None = None
    file_size: int | None = None


class ModelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The head of a logged model as it travels."""

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
    """The values of a logged model as they travel."""

    params: tuple[Tag, ...] = ()
    metrics: tuple[MetricPoint, ...] = ()


class ModelShape(Struct, frozen=True, kw_only=True):
    """A logged model as it travels."""

    info: ModelInfo
    data: ModelData


def number(value: float) -> float | str:
    """Say a number in JSON, which has no NaN and no infinities."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def tags(values: Mapping[str, str]) -> tuple[Tag, ...]:
    """Say a mapping as the list of pairs that the protocol has for it."""
    return tuple(Tag(key, value) for key, value in values.items())


def experiment(found: entities.Experiment) -> ExperimentShape:
    """Say an experiment."""
    return ExperimentShape(
        experiment_id=found.id,
        name=found.name,
        artifact_location=found.artifact_location,
        lifecycle_stage=found.lifecycle_stage.value,
        last_update_time=found.updated_at,
        creation_time=found.created_at,
        tags=tags(found.tags),
    )


def status(found: RunStatus) -> str:
    """Say a status; MLflow has no word for a run whose owner is gone."""
    return RunStatus.FAILED.value if found is RunStatus.LOST else found.value


def run_info(found: entities.Run) -> RunInfo:
    """Say the head of a run."""
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


def run(found: entities.Run, inputs: RunInputs | None = None, outputs: RunOutputs | None = None) -> RunShape:
    """Say a run with its last values."""
    return RunShape(
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
    """Say one point of a metric, with its run or model where the question does not name it."""
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
    """Say a dataset that a run read."""
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
    """Say what a run read."""
    return RunInputs(
        dataset_inputs=tuple(dataset_input(one) for one in found.datasets),
        model_inputs=tuple(ModelInput(model_id=model_id) for model_id in found.model_ids),
    )


def run_outputs(found: tuple[entities.ModelOutput, ...]) -> RunOutputs:
    """Say which models a run made."""
    return RunOutputs(model_outputs=tuple(ModelOutput(model_id=one.model_id, step=one.step) for one in found))


def model(found: entities.LoggedModel) -> ModelShape:
    """Say a logged model."""
    return ModelShape(
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
