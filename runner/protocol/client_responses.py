"""Decodes the responses of a remote tracking server into values of the store; missing fields get defaults."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from runner.base.tags import RUN_NAME_TAG, USER_TAG
from runner.errors import RemoteError
from runner.model import RunStatus
from runner.store import entities

ResponseT = TypeVar("ResponseT")


class Pair(Struct, frozen=True):
    """A tag or a parameter."""

    key: str
    value: str = ""


class Point(Struct, frozen=True):
    """One value of a metric."""

    key: str
    value: float = 0.0
    timestamp: int = 0
    step: int = 0
    model_id: str | None = None
    run_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    @property
    def metric(self) -> entities.Metric:
        """The value as an entity of the store."""
        return msgspec.convert(msgspec.structs.asdict(self), entities.Metric)


class ExperimentResponse(Struct, frozen=True):
    """An experiment."""

    experiment_id: str
    name: str = ""
    artifact_location: str = ""
    lifecycle_stage: entities.LifecycleStage = entities.LifecycleStage.ACTIVE
    creation_time: int = 0
    last_update_time: int = 0
    tags: tuple[Pair, ...] = ()

    @property
    def experiment(self) -> entities.Experiment:
        """The experiment as an entity of the store, with the server's id."""
        return entities.Experiment(
            id=self.experiment_id,
            name=self.name,
            artifact_location=self.artifact_location,
            lifecycle_stage=self.lifecycle_stage,
            created_at=self.creation_time,
            updated_at=self.last_update_time,
            tags=mapping(self.tags),
        )


class InfoResponse(Struct, frozen=True):
    """The attributes of a run."""

    run_id: str = ""
    run_uuid: str = ""
    run_name: str = ""
    experiment_id: str = ""
    user_id: str = ""
    status: str = "RUNNING"
    start_time: int = 0
    end_time: int | None = None
    artifact_uri: str = ""
    lifecycle_stage: entities.LifecycleStage = entities.LifecycleStage.ACTIVE


class DataResponse(Struct, frozen=True):
    """The metrics, parameters and tags of a run."""

    metrics: tuple[Point, ...] = ()
    params: tuple[Pair, ...] = ()
    tags: tuple[Pair, ...] = ()


class DatasetResponse(Struct, frozen=True):
    """A dataset input of a run."""

    dataset: entities.Dataset
    tags: tuple[Pair, ...] = ()


class ModelUse(Struct, frozen=True):
    """A logged model that is an input or an output of a run."""

    model_id: str
    step: int = 0


class InputsResponse(Struct, frozen=True):
    """The inputs of a run."""

    dataset_inputs: tuple[DatasetResponse, ...] = ()
    model_inputs: tuple[ModelUse, ...] = ()


class OutputsResponse(Struct, frozen=True):
    """The outputs of a run."""

    model_outputs: tuple[ModelUse, ...] = ()


class RunResponse(Struct, frozen=True):
    """A run."""

    info: InfoResponse
    data: DataResponse = DataResponse()
    inputs: InputsResponse = InputsResponse()
    outputs: OutputsResponse = OutputsResponse()

    @property
    def run(self) -> entities.Run:
        """The run as an entity of the store, with the server's ids."""
        info, tags = self.info, mapping(self.data.tags)
        known = {status.value for status in RunStatus}
        return entities.Run(
            run_id=info.run_id or info.run_uuid,
            experiment_id=info.experiment_id,
            name=info.run_name or tags.get(RUN_NAME_TAG, ""),
            user=info.user_id or tags.get(USER_TAG, ""),
            status=RunStatus(info.status) if info.status in known else RunStatus.RUNNING,
            started_at=info.start_time,
            ended_at=info.end_time or None,
            lifecycle_stage=info.lifecycle_stage,
            artifact_uri=info.artifact_uri,
            params=mapping(self.data.params),
            metrics={point.key: point.metric for point in self.data.metrics},
            tags=tags,
        )

    @property
    def read(self) -> entities.RunInputs:
        """The inputs of the run as an entity of the store."""
        datasets = (
            entities.DatasetInput(dataset=one.dataset, tags=mapping(one.tags)) for one in self.inputs.dataset_inputs
        )
        return entities.RunInputs(
            datasets=tuple(datasets), model_ids=tuple(one.model_id for one in self.inputs.model_inputs)
        )

    @property
    def made(self) -> tuple[entities.ModelOutput, ...]:
        """The logged models that the run created."""
        return tuple(entities.ModelOutput(model_id=one.model_id, step=one.step) for one in self.outputs.model_outputs)


class ModelInfoResponse(Struct, frozen=True):
    """The attributes of a logged model."""

    model_id: str
    experiment_id: str = ""
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    artifact_uri: str = ""
    status: str = ""
    creation_timestamp_ms: int = 0
    last_updated_timestamp_ms: int = 0
    tags: tuple[Pair, ...] = ()


class ModelDataResponse(Struct, frozen=True):
    """The parameters and metrics of a logged model."""

    params: tuple[Pair, ...] = ()
    metrics: tuple[Point, ...] = ()


class ModelResponse(Struct, frozen=True):
    """A logged model."""

    info: ModelInfoResponse
    data: ModelDataResponse = ModelDataResponse()

    @property
    def model(self) -> entities.LoggedModel:
        """The logged model as an entity of the store, with the server's ids."""
        info = self.info
        known = {status.value for status in entities.ModelStatus}
        return entities.LoggedModel(
            model_id=info.model_id,
            experiment_id=info.experiment_id,
            name=info.name,
            model_type=info.model_type,
            source_run_id=info.source_run_id or None,
            artifact_uri=info.artifact_uri,
            status=entities.ModelStatus(info.status) if info.status in known else entities.ModelStatus.PENDING,
            created_at=info.creation_timestamp_ms,
            updated_at=info.last_updated_timestamp_ms,
            params=mapping(self.data.params),
            tags=mapping(info.tags),
            metrics=tuple(point.metric for point in self.data.metrics),
        )


class FileResponse(Struct, frozen=True):
    """A file or folder of artifacts."""

    path: str
    is_dir: bool = False
    file_size: int | None = None


class OneExperiment(Struct, frozen=True):
    """A response with one experiment."""

    experiment: ExperimentResponse


class CreatedExperiment(Struct, frozen=True):
    """A response with the id of a new experiment."""

    experiment_id: str


class Experiments(Struct, frozen=True):
    """A page of experiments."""

    experiments: tuple[ExperimentResponse, ...] = ()
    next_page_token: str | None = None


class OneRun(Struct, frozen=True):
    """A response with one run."""

    run: RunResponse


class Runs(Struct, frozen=True):
    """A page of runs."""

    runs: tuple[RunResponse, ...] = ()
    next_page_token: str | None = None


class History(Struct, frozen=True):
    """A page of the values of a metric."""

    metrics: tuple[Point, ...] = ()
    next_page_token: str | None = None


class OneModel(Struct, frozen=True):
    """A response with one logged model."""

    model: ModelResponse


class Models(Struct, frozen=True):
    """A page of logged models."""

    models: tuple[ModelResponse, ...] = ()
    next_page_token: str | None = None


class Files(Struct, frozen=True):
    """The content of a folder of artifacts."""

    files: tuple[FileResponse, ...] = ()


def mapping(pairs: Iterable[Pair]) -> dict[str, str]:
    """Convert pairs to a mapping."""
    return {pair.key: pair.value for pair in pairs}


def decode(content: bytes, schema: type[ResponseT], server: str) -> ResponseT:
    """Decode a response of the protocol. Numbers may be strings: NaN, and 64-bit integers in the JSON of protobuf.

    Raises:
        RemoteError: the content is not a response of this schema.
    """
    try:
        return msgspec.json.decode(content, type=schema, strict=False)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RemoteError(
            f"{server} does not respond like a tracking server", context=str(error), hint="check the address"
        ) from error
