"""Defines and decodes the requests of MLflow's REST protocol.

Field names are those of MLflow's ``service.proto``; every field that is not required there is optional here.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

Text = str | int
"""An id: a string; clients before MLflow 1.0 send a number."""

Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=50_000)]


class Request(Struct, frozen=True, kw_only=True):
    """Base of all requests; unknown fields are ignored."""


class Tag(Struct, frozen=True):
    """A tag or a parameter."""

    key: str
    value: str = ""


class CreateExperiment(Request, frozen=True, kw_only=True):
    """Create an experiment."""

    name: str
    artifact_location: str | None = None
    tags: tuple[Tag, ...] = ()


class ExperimentId(Request, frozen=True, kw_only=True):
    """Identify an experiment by its id."""

    experiment_id: Text


class ExperimentName(Request, frozen=True, kw_only=True):
    """Identify an experiment by its name."""

    experiment_name: str


class RenameExperiment(ExperimentId, frozen=True, kw_only=True):
    """Rename an experiment."""

    new_name: str | None = None


class SetExperimentTag(ExperimentId, frozen=True, kw_only=True):
    """Set a tag of an experiment."""

    key: str
    value: str = ""


class DeleteExperimentTag(ExperimentId, frozen=True, kw_only=True):
    """Remove a tag of an experiment."""

    key: str


class SearchExperiments(Request, frozen=True, kw_only=True):
    """Search experiments."""

    max_results: Limit = 1000
    page_token: str | None = None
    filter: str | None = None
    order_by: tuple[str, ...] = ()
    view_type: str = "ACTIVE_ONLY"


class AnyRun(Request, frozen=True, kw_only=True):
    """Identify a run; clients send its id in the old field, the new field or both."""

    run_id: str | None = None
    run_uuid: str | None = None

    @property
    def run(self) -> str:
        """The id of the run; empty when the client sent none."""
        return self.run_id or self.run_uuid or ""


class CreateRun(Request, frozen=True, kw_only=True):
    """Create a run."""

    experiment_id: Text | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Long | None = None
    tags: tuple[Tag, ...] = ()
    proj_run_id: str | None = None
    """The id of a run that `proj push` sends to a `proj server`; no field of MLflow."""


class UpdateRun(AnyRun, frozen=True, kw_only=True):
    """Update the status, end time or name of a run."""

    status: str | int | None = None
    end_time: Long | None = None
    run_name: str | None = None


class SearchRuns(Request, frozen=True, kw_only=True):
    """Search runs."""

    experiment_ids: tuple[Text, ...] = ()
    filter: str | None = None
    run_view_type: str = "ACTIVE_ONLY"
    max_results: Limit = 1000
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class SentMetric(Struct, frozen=True, kw_only=True):
    """One value of a metric in a batch."""

    key: str
    value: float
    timestamp: Long | None = None
    step: Long = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(AnyRun, frozen=True, kw_only=True):
    """Log one value of a metric."""

    key: str
    value: float
    timestamp: Long | None = None
    step: Long = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogParam(AnyRun, frozen=True, kw_only=True):
    """Log one parameter."""

    key: str
    value: str = ""


class SetTag(AnyRun, frozen=True, kw_only=True):
    """Set one tag of a run."""

    key: str
    value: str = ""


class DeleteTag(AnyRun, frozen=True, kw_only=True):
    """Remove a tag of a run."""

    key: str


class LogBatch(AnyRun, frozen=True, kw_only=True):
    """Log metrics, parameters and tags; all of them are stored, or none."""

    metrics: tuple[SentMetric, ...] = ()
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class LogModel(AnyRun, frozen=True, kw_only=True):
    """Record a model that a client of MLflow 1 or 2 logged; ``model_json`` is its MLmodel file as JSON."""

    model_json: str


class SentDataset(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset in a request or a response."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class SentDatasetInput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset input of a run, with its tags."""

    dataset: SentDataset
    tags: tuple[Tag, ...] = ()


class ModelInput(Struct, frozen=True, kw_only=True):
    """A logged model that is an input of a run."""

    model_id: str


class ModelOutput(Struct, frozen=True, kw_only=True):
    """A logged model that is an output of a run."""

    model_id: str
    step: Long = 0


class LogInputs(AnyRun, frozen=True, kw_only=True):
    """Log the inputs of a run."""

    datasets: tuple[SentDatasetInput, ...] = ()
    models: tuple[ModelInput, ...] = ()


class LogOutputs(AnyRun, frozen=True, kw_only=True):
    """Log the models that a run created."""

    models: tuple[ModelOutput, ...] = ()


class MetricHistory(AnyRun, frozen=True, kw_only=True):
    """Get the history of a metric."""

    metric_key: str
    max_results: Limit | None = None
    page_token: str | None = None


class MetricHistories(Request, frozen=True, kw_only=True):
    """Get the history of a metric in several runs."""

    run_id: tuple[str, ...] = ()
    metric_key: str
    max_results: Limit = 25_000


class MetricIntervals(Request, frozen=True, kw_only=True):
    """Get evenly sampled values of a metric in several runs, within a range of steps."""

    run_ids: tuple[str, ...] = ()
    metric_key: str
    max_results: Annotated[int, Meta(ge=1, le=2500)] = 2500
    start_step: Long | None = None
    end_step: Long | None = None


class ListArtifacts(AnyRun, frozen=True, kw_only=True):
    """List a folder of a run's artifacts."""

    path: str = ""


class ListProxied(Request, frozen=True, kw_only=True):
    """List a folder through the artifact proxy."""

    path: str = ""


class CreateModel(Request, frozen=True, kw_only=True):
    """Create a logged model."""

    experiment_id: Text
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class ModelId(Request, frozen=True, kw_only=True):
    """Identify a logged model; the id is part of the path."""

    model_id: str


class FinalizeModel(ModelId, frozen=True, kw_only=True):
    """Set the final status of a logged model."""

    status: str | int


class SetModelTags(ModelId, frozen=True, kw_only=True):
    """Set tags of a logged model."""

    tags: tuple[Tag, ...] = ()


class DeleteModelTag(ModelId, frozen=True, kw_only=True):
    """Remove a tag of a logged model."""

    tag_key: str


class LogModelParams(ModelId, frozen=True, kw_only=True):
    """Log parameters of a logged model."""

    params: tuple[Tag, ...] = ()


class ListModelArtifacts(ModelId, frozen=True, kw_only=True):
    """List a folder of a logged model's artifacts."""

    artifact_directory_path: str = ""


class ModelOrder(Struct, frozen=True, kw_only=True):
    """A sort key for logged models."""

    field_name: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


class SearchModels(Request, frozen=True, kw_only=True):
    """Search logged models."""

    experiment_ids: tuple[Text, ...] = ()
    filter: str | None = None
    max_results: Limit = 100
    order_by: tuple[ModelOrder, ...] = ()
    page_token: str | None = None


RequestT = TypeVar("RequestT", bound=Request)


def read_body(schema: type[RequestT], body: bytes, given: Mapping[str, str]) -> RequestT:
    """Decode a JSON body; ``given`` are the fields from the path.

    Clients send 64-bit numbers, NaN and the infinities as strings, and null for a missing field.

    Raises:
        msgspec.DecodeError: the body is not JSON, or does not match the schema.
    """
    if not _is_text(body):
        raise msgspec.DecodeError("The body is not UTF-8")
    if not given and b"null" not in body:
        request: RequestT = _decoder(schema).decode(body or b"{}")
        return request
    fields = msgspec.json.decode(body or b"{}")
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("Expected `object`")
    present = {name: value for name, value in fields.items() if value is not None}
    return msgspec.convert({**present, **given}, schema, strict=False)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_query(schema: type[RequestT], query: str, given: Mapping[str, str]) -> RequestT:
    """Decode the query of a URL; ``given`` are the fields from the path.

    Raises:
        msgspec.ValidationError: the fields do not match the schema.
    """
    lists = _lists(schema)
    fields: dict[str, str | list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in lists:
            fields.setdefault(name, []).append(value)  # type: ignore[union-attr]
        else:
            fields[name] = value
    return msgspec.convert({**fields, **given}, schema, strict=False)


@cache
def _decoder(schema: type[RequestT]) -> msgspec.json.Decoder[RequestT]:
    return msgspec.json.Decoder(schema, strict=False)


@cache
def _lists(schema: type[Request]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(schema) if get_origin(field.type) is tuple)
