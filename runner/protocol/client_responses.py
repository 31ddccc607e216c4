"""What a remote server answers, as values of the store; fields that a server leaves out have their defaults."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from runner.errors import RemoteError
from runner.model import RunStatus
from runner.store import entities

Shape = TypeVar("Shape")


class Pair(Struct, frozen=True):
    """A tag or a parameter."""

    key: str
    value: str = ""


class Point(Struct, frozen=True):
    """A point of a metric."""

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
        """The point as the store has it."""
        return msgspec.convert(msgspec.structs.asdict(self), entities.Metric)


class ExperimentAnswer(Struct, frozen=True):
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
        """The experiment as the store has it, with the server's own id."""
        return entities.Experiment(
            id=self.experiment_id,
            name=self.name,
            artifact_location=self.artifact_location,
            lifecycle_stage=self.lifecycle_stage,
            created_at=self.creation_time,
            updated_at=self.last_update_time,
            tags=mapping(self.tags),
        )


class InfoAnswer(Struct, frozen=True):
    """The head of a run."""

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


class DataAnswer(Struct, frozen=True):
    """The values of a run."""

    metrics: tuple[Point, ...] = ()
    params: tuple[Pair, ...] = ()
    tags: tuple[Pair, ...] = ()


class DatasetAnswer(Struct, frozen=True):
    """A dataset that a run read."""

    dataset: entities.Dataset
    tags: tuple[Pair, ...] = ()


class ModelUse(Struct, frozen=True):
    """A logged model that a run read or made."""

    model_id: str
    step: int = 0


class InputsAnswer(Struct, frozen=True):
    """What a run read."""

    dataset_inputs: tuple[DatasetAnswer, ...] = ()
    model_inputs: tuple[ModelUse, ...] = ()


class OutputsAnswer(Struct, frozen=True):
    """What a run made."""

    model_outputs: tuple[ModelUse, ...] = ()


class RunAnswer(Struct, frozen=True):
    """A run."""

    info: InfoAnswer
    data: DataAnswer = DataAnswer()
    inputs: InputsAnswer = InputsAnswer()
    outputs: OutputsAnswer = OutputsAnswer()

    @property
    def run(self) -> entities.Run:
        """The run as the store has it, with the server's own ids."""
        info, tags = self.info, mapping(self.data.tags)
        known = {status.value for status in RunStatus}
        return entities.Run(
            run_id=info.run_id or info.run_uuid,
            experiment_id=info.experiment_id,
            name=info.run_name or tags.get("mlflow.runName", ""),
            user=info.user_id or tags.get("mlflow.user", ""),
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
        """What the run read."""
        datasets = (
            entities.DatasetInput(dataset=one.dataset, tags=mapping(one.tags)) for one in self.inputs.dataset_inputs
        )
        return entities.RunInputs(
            datasets=tuple(datasets), model_ids=tuple(one.model_id for one in self.inputs.model_inputs)
        )

    @property
    def made(self) -> tuple[entities.ModelOutput, ...]:
        """The logged models that the run made."""
        return tuple(entities.ModelOutput(model_id=one.model_id, step=one.step) for one in self.outputs.model_outputs)


class ModelInfoAnswer(Struct, frozen=True):
    """The head of a logged model."""

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


class ModelDataAnswer(Struct, frozen=True):
    """The values of a logged model."""

    params: tuple[Pair, ...] = ()
    metrics: tuple[Point, ...] = ()


class ModelAnswer(Struct, frozen=True):
    """A logged model."""

    info: ModelInfoAnswer
    data: ModelDataAnswer = ModelDataAnswer()

    @property
    def model(self) -> entities.LoggedModel:
        """The logged model as the store has it, with the server's own ids."""
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


class FileAnswer(Struct, frozen=True):
    """A file or folder among artifacts."""

    path: str
    is_dir: bool = False
    file_size: int | None = None


class OneExperiment(Struct, frozen=True):
    """An answer with an experiment."""

    experiment: ExperimentAnswer


class CreatedExperiment(Struct, frozen=True):
    """An answer with the id of a new experiment."""

    experiment_id: str


class Experiments(Struct, frozen=True):
    """A page of experiments."""

    experiments: tuple[ExperimentAnswer, ...] = ()
    next_page_token: str | None = None


class OneRun(Struct, frozen=True):
    """An answer with a run."""

    run: RunAnswer


class Runs(Struct, frozen=True):
    """A page of runs."""

    runs: tuple[RunAnswer, ...] = ()
    next_page_token: str | None = None


class History(Struct, frozen=True):
    """A page of a metric's points."""

    metrics: tuple[Point, ...] = ()
    next_page_token: str | None = None


class OneModel(Struct, frozen=True):
    """An answer with a logged model."""

    model: ModelAnswer


class Models(Struct, frozen=True):
    """A page of logged models."""

    models: tuple[ModelAnswer, ...] = ()
    next_page_token: str | None = None


class Files(Struct, frozen=True):
    """What is in a folder of artifacts."""

    files: tuple[FileAnswer, ...] = ()
    root_uri: str = ""


def mapping(pairs: Iterable[Pair]) -> dict[str, str]:
    """Return pairs as a mapping."""
    return {pair.key: pair.value for pair in pairs}


def decode(content: bytes, shape: type[Shape], server: str) -> Shape:
    """Return an answer of the protocol; numbers may be strings, as for NaN and in protobuf's own JSON.

    Raises:
        RemoteError: it is none.
    """
    try:
        return msgspec.json.decode(content, type=shape, strict=False)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RemoteError(
            f"{server} does not respond like a tracking server", context=str(error), hint="check the address"
        ) from error
