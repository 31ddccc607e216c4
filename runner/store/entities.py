"""Defines the stored entities as frozen values. Times are milliseconds since 1970 in UTC."""

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from msgspec import Struct

from runner.model import RunDetails, RunStatus

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True, kw_only=True):
    """A page of search results; ``next_page_token`` is None on the last page."""

    items: tuple[Item, ...]
    next_page_token: str | None = None


class LifecycleStage(str, Enum):
    """Whether an entity is active or deleted; MLflow's terms."""

    ACTIVE = "active"
    DELETED = "deleted"


class View(str, Enum):
    """The lifecycle stages that a search includes; MLflow's terms."""

    ACTIVE = "ACTIVE_ONLY"
    DELETED = "DELETED_ONLY"
    ALL = "ALL"


class Experiment(Struct, frozen=True, kw_only=True):
    """A named group of runs."""

    id: str
    name: str
    artifact_location: str
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE
    created_at: int = 0
    updated_at: int = 0
    tags: Mapping[str, str] = {}


class ProcessIdentity(Struct, frozen=True, kw_only=True):
    """The process that owns a run; the fields identify one process uniquely.

    ``started`` is the kernel's start time of the process as text, ``space`` its process id namespace, if any.
    """

    pid: int
    started: str
    boot: str
    host: str
    space: str = ""


class Metric(Struct, frozen=True, kw_only=True):
    """One point of a metric.

    ``model_id`` and the dataset are the measured objects, if the client sent them; ``run_id`` is set in model metrics.
    """

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    run_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Param(Struct, frozen=True, kw_only=True):
    """A parameter as stored. ``digest`` is the keyed digest of a secret value whose text is masked."""

    key: str
    value: str
    type: str = "string"
    source: str = "logged"
    digest: str | None = None


class NewRun(Struct, frozen=True, kw_only=True):
    """The values for a new run. Id, name and start time are generated if they are None."""

    experiment_id: str = "0"
    run_id: str | None = None
    name: str | None = None
    user: str = ""
    status: RunStatus = RunStatus.RUNNING
    started_at: int | None = None
    artifact_uri: str | None = None
    tags: Mapping[str, str] = {}
    details: RunDetails = RunDetails()
    owner: ProcessIdentity | None = None


class Run(Struct, frozen=True, kw_only=True):
    """A run with its latest metric values. ``details`` is empty if a search did not request it."""

    run_id: str
    experiment_id: str
    name: str
    user: str
    status: RunStatus
    started_at: int
    ended_at: int | None
    lifecycle_stage: LifecycleStage
    artifact_uri: str
    params: Mapping[str, str] = {}
    metrics: Mapping[str, Metric] = {}
    tags: Mapping[str, str] = {}
    details: RunDetails = RunDetails()
    owner: ProcessIdentity | None = None


class Dataset(Struct, frozen=True, kw_only=True):
    """A dataset as MLflow describes it; ``source``, ``schema`` and ``profile`` are the client's text."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Struct, frozen=True, kw_only=True):
    """A dataset that a run read; the tag ``mlflow.data.context`` names its purpose."""

    dataset: Dataset
    tags: Mapping[str, str] = {}


class ModelOutput(Struct, frozen=True, kw_only=True):
    """A logged model that a run made, with the step."""

    model_id: str
    step: int = 0


class RunInputs(Struct, frozen=True, kw_only=True):
    """The datasets and the ids of the logged models that a run read."""

    datasets: tuple[DatasetInput, ...] = ()
    model_ids: tuple[str, ...] = ()


class ModelStatus(str, Enum):
    """The states of a logged model; MLflow's terms."""

    PENDING = "LOGGED_MODEL_PENDING"
    READY = "LOGGED_MODEL_READY"
    FAILED = "LOGGED_MODEL_UPLOAD_FAILED"


class NewModel(Struct, frozen=True, kw_only=True):
    """The values for a new logged model."""

    experiment_id: str = "0"
    name: str | None = None
    model_type: str = ""
    source_run_id: str | None = None
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}


class LoggedModel(Struct, frozen=True, kw_only=True):
    """A model logged by an MLflow 3 client, separate from the run that made it."""

    model_id: str
    experiment_id: str
    name: str
    model_type: str
    source_run_id: str | None
    artifact_uri: str
    status: ModelStatus
    created_at: int
    updated_at: int
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    metrics: tuple[Metric, ...] = ()


class ModelStage(str, Enum):
    """The stage of a model version; MLflow's terms."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"

    @property
    def is_active(self) -> bool:
        """Return whether versions of this stage are in use, so that a later one can replace them."""
        return self in (ModelStage.STAGING, ModelStage.PRODUCTION)


class NewVersion(Struct, frozen=True, kw_only=True):
    """The values for a new model version; ``source`` is a URI of its files."""

    name: str
    source: str
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = {}


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A version of a registered model; its files are at ``location``, resolved from ``source``."""

    name: str
    version: int
    stage: ModelStage
    description: str | None
    source: str
    location: str
    run_id: str | None
    run_link: str | None
    model_id: str | None
    created_at: int
    updated_at: int
    tags: Mapping[str, str] = {}
    aliases: tuple[str, ...] = ()


class RegisteredModel(Struct, frozen=True, kw_only=True):
    """A registered model. ``latest`` has the latest version of each stage."""

    name: str
    description: str | None
    created_at: int
    updated_at: int
    tags: Mapping[str, str] = {}
    aliases: Mapping[str, int] = {}
    latest: tuple[ModelVersion, ...] = ()
