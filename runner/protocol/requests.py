"""What clients of MLflow's REST protocol send.

The names of the fields are those of MLflow's ``service.proto``; a client may leave out whatever is not required there.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

Text = str | int
"""An id: a string, but clients of before 1.0 send numbers."""

Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=50_000)]


class Request(Struct, frozen=True, kw_only=True):
    """What a client sends; fields that proj does not know are ignored."""


class Nothing(Request, frozen=True, kw_only=True):
    """A request without fields."""


class Tag(Struct, frozen=True):
    """A tag or a parameter."""

    key: str
    value: str = ""


class CreateExperiment(Request, frozen=True, kw_only=True):
    """Ask for a new experiment."""

    name: str
    artifact_location: str | None = None
    tags: tuple[Tag, ...] = ()


class ExperimentId(Request, frozen=True, kw_only=True):
    """Name an experiment by its id."""

    experiment_id: Text


class ExperimentName(Request, frozen=True, kw_only=True):
    """Name an experiment by its name."""

    experiment_name: str


class RenameExperiment(ExperimentId, frozen=True, kw_only=True):
    """Ask for another name of an experiment."""

    new_name: str | None = None


class SetExperimentTag(ExperimentId, frozen=True, kw_only=True):
    """Ask for a tag on an experiment."""

    key: str
    value: str = ""


class DeleteExperimentTag(ExperimentId, frozen=True, kw_only=True):
    """Ask for a tag of an experiment to go."""

    key: str


class SearchExperiments(Request, frozen=True, kw_only=True):
    """Ask which experiments there are."""

    max_results: Limit = 1000
    page_token: str | None = None
    filter: str | None = None
    order_by: tuple[str, ...] = ()
    view_type: str = "ACTIVE_ONLY"


class AnyRun(Request, frozen=True, kw_only=True):
    """Name a run; clients send its id twice, under the old name and the new one."""

    run_id: str | None = None
    run_uuid: str | None = None

    @property
    def run(self) -> str:
        """The id of the run, empty where the client named none."""
        return self.run_id or self.run_uuid or ""


class CreateRun(Request, frozen=True, kw_only=True):
    """Ask for a new run."""

    experiment_id: Text | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Long | None = None
    tags: tuple[Tag, ...] = ()


class UpdateRun(AnyRun, frozen=True, kw_only=True):
    """Tell what became of a run."""

    status: str | int | None = None
    end_time: Long | None = None
    run_name: str | None = None


class SearchRuns(Request, frozen=True, kw_only=True):
    """Ask for runs."""

    experiment_ids: tuple[Text, ...] = ()
    filter: str | None = None
    run_view_type: str = "ACTIVE_ONLY"
    max_results: Limit = 1000
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class SentMetric(Struct, frozen=True, kw_only=True):
    """A metric as a client sends it."""

    key: str
    value: float
    timestamp: Long | None = None
    step: Long = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(AnyRun, frozen=True, kw_only=True):
    """Tell one point of a metric."""

    key: str
    value: float
    timestamp: Long | None = None
    step: Long = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogParam(AnyRun, frozen=True, kw_only=True):
    """Tell one parameter."""

    key: str
    value: str = ""


class SetTag(AnyRun, frozen=True, kw_only=True):
    """Tell one tag of a run."""

    key: str
    value: str = ""


class DeleteTag(AnyRun, frozen=True, kw_only=True):
    """Ask for a tag of a run to go."""

    key: str


class LogBatch(AnyRun, frozen=True, kw_only=True):
    """Tell many values at once; all of them are kept, or none."""

    metrics: tuple[SentMetric, ...] = ()
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class LogModel(AnyRun, frozen=True, kw_only=True):
    """Tell of a model that a client of MLflow 1 or 2 logged; the text is the JSON of its MLmodel file."""

    model_json: str


class SentDataset(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset as it travels."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class SentDatasetInput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset that a run read, as it travels."""

    dataset: SentDataset
    tags: tuple[Tag, ...] = ()


class ModelInput(Struct, frozen=True, kw_only=True):
    """A logged model that a run read."""

    model_id: str


class ModelOutput(Struct, frozen=True, kw_only=True):
    """A logged model that a run made."""

    model_id: str
    step: Long = 0


class LogInputs(AnyRun, frozen=True, kw_only=True):
    """Tell what a run read."""

    datasets: tuple[SentDatasetInput, ...] = ()
    models: tuple[ModelInput, ...] = ()


class LogOutputs(AnyRun, frozen=True, kw_only=True):
    """Tell which models a run made."""

    models: tuple[ModelOutput, ...] = ()


class MetricHistory(AnyRun, frozen=True, kw_only=True):
    """Ask for the points of a metric."""

    metric_key: str
    max_results: Limit | None = None
    page_token: str | None = None


class MetricHistories(Request, frozen=True, kw_only=True):
    """Ask for the points of a metric in several runs."""

    run_id: tuple[str, ...] = ()
    metric_key: str
    max_results: Limit = 25_000


class MetricIntervals(Request, frozen=True, kw_only=True):
    """Ask for points of a metric in several runs, evenly taken from a range of steps."""

    run_ids: tuple[str, ...] = ()
    metric_key: str
    max_results: Annotated[int, Meta(ge=1, le=2500)] = 2500
    start_step: Long | None = None
    end_step: Long | None = None


class ListArtifacts(AnyRun, frozen=True, kw_only=True):
    """Ask what is in a folder of a run's artifacts."""

    path: str = ""


class ListProxied(Request, frozen=True, kw_only=True):
    """Ask what is in a folder behind the artifact proxy."""

    path: str = ""


class CreateModel(Request, frozen=True, kw_only=True):
    """Ask for a new logged model."""

    experiment_id: Text
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class ModelId(Request, frozen=True, kw_only=True):
    """Name a logged model; the id travels in the path."""

    model_id: str


class FinalizeModel(ModelId, frozen=True, kw_only=True):
    """Tell what became of a logged model."""

    status: str | int


class SetModelTags(ModelId, frozen=True, kw_only=True):
    """Tell tags of a logged model."""

    tags: tuple[Tag, ...] = ()


class DeleteModelTag(ModelId, frozen=True, kw_only=True):
    """Ask for a tag of a logged model to go."""

    tag_key: str


class LogModelParams(ModelId, frozen=True, kw_only=True):
    """Tell parameters of a logged model."""

    params: tuple[Tag, ...] = ()


class ListModelArtifacts(ModelId, frozen=True, kw_only=True):
    """Ask what is in a folder of a logged model's artifacts."""

    artifact_directory_path: str = ""


class ModelOrder(Struct, frozen=True, kw_only=True):
    """A column that logged models are ordered by."""

    field_name: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


class SearchModels(Request, frozen=True, kw_only=True):
    """Ask for logged models."""

    experiment_ids: tuple[Text, ...] = ()
    filter: str | None = None
    max_results: Limit = 100
    order_by: tuple[ModelOrder, ...] = ()
    page_token: str | None = None


Asked = TypeVar("Asked", bound=Request)


def read_body(shape: type[Asked], body: bytes, given: Mapping[str, str]) -> Asked:
    """Read a JSON body; ``given`` are the fields that travel in the path.

    A client sends 64-bit numbers, NaN and the infinities as strings, and null for what it leaves out.

    Raises:
        msgspec.DecodeError: the body is no JSON, or not of this shape.
    """
    if not given and b"null" not in body:
        asked: Asked = _decoder(shape).decode(body or b"{}")
        return asked
    fields = msgspec.json.decode(body or b"{}")
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("Expected `object`")
    present = {name: value for name, value in fields.items() if value is not None}
    return msgspec.convert({**present, **given}, shape, strict=False)


def read_query(shape: type[Asked], query: str, given: Mapping[str, str]) -> Asked:
    """Read the query of a URL; ``given`` are the fields that travel in the path.

    Raises:
        msgspec.ValidationError: the fields are not of this shape.
    """
    lists = _lists(shape)
    fields: dict[str, str | list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in lists:
            fields.setdefault(name, []).append(value)  # type: ignore[union-attr]
        else:
            fields[name] = value
    return msgspec.convert({**fields, **given}, shape, strict=False)


@cache
def _decoder(shape: type[Asked]) -> msgspec.json.Decoder[Asked]:
    return msgspec.json.Decoder(shape, strict=False)


@cache
def _lists(shape: type[Request]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(shape) if get_origin(field.type) is tuple)
