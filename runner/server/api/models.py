"""The endpoints for the logged models of MLflow 3."""

from msgspec import structs

from runner.protocol import responses
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import (
    CreateModel,
    DeleteModelTag,
    FinalizeModel,
    LogModelParams,
    ModelId,
    SearchModels,
    SetModelTags,
)
from runner.server.api.tracking import Route, Tracking
from runner.server.run.session import DELETED
from runner.store import models
from runner.store.entities import LoggedModel, ModelStatus, NewModel

_STATUS_NUMBERS = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}


def create(tracking: Tracking, asked: CreateModel) -> object:
    """Open a logged model."""
    if asked.source_run_id:
        tracking.session.check_run(tracking.database, asked.source_run_id)
    model = models.create(
        tracking.database,
        NewModel(
            experiment_id=str(asked.experiment_id),
            name=asked.name or None,
            model_type=asked.model_type or "",
            source_run_id=asked.source_run_id or None,
            params={param.key: param.value for param in asked.params},
            tags={tag.key: tag.value for tag in asked.tags},
        ),
    )
    tracking.session.model_created(model.model_id)
    return _answer(tracking, model)


def get(tracking: Tracking, asked: ModelId) -> object:
    """Tell of a logged model."""
    return _answer(tracking, models.get(tracking.database, asked.model_id))


def finalize(tracking: Tracking, asked: FinalizeModel) -> object:
    """Say that a logged model is whole, or failed."""
    name = _STATUS_NUMBERS.get(asked.status) if isinstance(asked.status, int) else asked.status
    if name not in _STATUS_NUMBERS.values():
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"'{str(asked.status)[:40]}' is no status of a model.")
    return _answer(tracking, models.finalize(tracking.database, _to_change(tracking, asked), ModelStatus(name)))


def delete(tracking: Tracking, asked: ModelId) -> object:
    """Put a logged model aside."""
    tracking.session.check_model(asked.model_id, DELETED)
    models.delete(tracking.database, asked.model_id)
    return {}


def search(tracking: Tracking, asked: SearchModels) -> object:
    """Tell which logged models there are, a page at a time."""
    page = models.search(
        tracking.database,
        models.ModelQuery(
            experiment_ids=tuple(str(experiment_id) for experiment_id in asked.experiment_ids),
            filter=asked.filter or "",
            order_by=tuple(f"{order.field_name} {'ASC' if order.ascending else 'DESC'}" for order in asked.order_by),
            limit=asked.max_results,
            page_token=asked.page_token or None,
        ),
    )
    return {
        "models": [_tell(tracking, model) for model in page.items],
        **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
    }


def set_tags(tracking: Tracking, asked: SetModelTags) -> object:
    """Set tags of a logged model."""
    model_id = _to_change(tracking, asked)
    models.set_tags(tracking.database, model_id, {tag.key: tag.value for tag in asked.tags})
    return {}


def delete_tag(tracking: Tracking, asked: DeleteModelTag) -> object:
    """Remove a tag of a logged model."""
    models.delete_tag(tracking.database, _to_change(tracking, asked), asked.tag_key)
    return {}


def log_params(tracking: Tracking, asked: LogModelParams) -> object:
    """Keep parameters of a logged model."""
    params = {param.key: param.value for param in asked.params}
    models.log_params(tracking.database, _to_change(tracking, asked), params)
    return {}


def _to_change(tracking: Tracking, asked: ModelId) -> str:
    tracking.session.check_model(asked.model_id)
    return asked.model_id


def _answer(tracking: Tracking, model: LoggedModel) -> object:
    return {"model": _tell(tracking, model)}


def _tell(tracking: Tracking, model: LoggedModel) -> responses.ModelShape:
    return responses.model(structs.replace(model, artifact_uri=tracking.session.uri_told(model.artifact_uri)))


ROUTES = (
    Route("POST", "logged-models", CreateModel, create),
    Route("POST", "logged-models/search", SearchModels, search, writes=False),
    Route("GET", "logged-models/{model_id}", ModelId, get),
    Route("PATCH", "logged-models/{model_id}", FinalizeModel, finalize),
    Route("DELETE", "logged-models/{model_id}", ModelId, delete),
    Route("PATCH", "logged-models/{model_id}/tags", SetModelTags, set_tags),
    Route("DELETE", "logged-models/{model_id}/tags/{tag_key}", DeleteModelTag, delete_tag),
    Route("POST", "logged-models/{model_id}/params", LogModelParams, log_params),
)
