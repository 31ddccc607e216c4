"""Endpoints for the logged models of MLflow 3."""

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
from runner.server.api.session import DELETED
from runner.server.api.tracking import Route, Tracking
from runner.store import models
from runner.store.entities import LoggedModel, ModelStatus, NewModel

_STATUS_NUMBERS = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}


def create(tracking: Tracking, request: CreateModel) -> object:
    """Create a logged model."""
    if request.source_run_id:
        tracking.session.check_run(tracking.database, request.source_run_id)
    model = models.create(
        tracking.database,
        NewModel(
            experiment_id=str(request.experiment_id),
            name=request.name or None,
            model_type=request.model_type or "",
            source_run_id=request.source_run_id or None,
            params={param.key: param.value for param in request.params},
            tags={tag.key: tag.value for tag in request.tags},
        ),
    )
    tracking.session.model_created(model.model_id)
    return _model_response(tracking, model)


def get(tracking: Tracking, request: ModelId) -> object:
    """Get a logged model."""
    return _model_response(tracking, models.get(tracking.database, request.model_id))


def finalize(tracking: Tracking, request: FinalizeModel) -> object:
    """Mark a logged model as ready or failed."""
    name = _STATUS_NUMBERS.get(request.status) if isinstance(request.status, int) else request.status
    if name not in _STATUS_NUMBERS.values():
        raise RefusedError(
            ErrorCode.INVALID_PARAMETER_VALUE, f"'{str(request.status)[:40]}' is not a status of a model."
        )
    return _model_response(
        tracking, models.finalize(tracking.database, _to_change(tracking, request), ModelStatus(name))
    )


def delete(tracking: Tracking, request: ModelId) -> object:
    """Mark a logged model as deleted."""
    tracking.session.check_model(request.model_id, DELETED)
    models.delete(tracking.database, request.model_id)
    return {}


def search(tracking: Tracking, request: SearchModels) -> object:
    """Search logged models; return one page."""
    page = models.search(
        tracking.database,
        models.ModelQuery(
            experiment_ids=tuple(str(experiment_id) for experiment_id in request.experiment_ids),
            filter=request.filter or "",
            order_by=tuple(f"{order.field_name} {'ASC' if order.ascending else 'DESC'}" for order in request.order_by),
            limit=request.max_results,
            page_token=request.page_token or None,
        ),
    )
    return {
        "models": [_for_client(tracking, model) for model in page.items],
        **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
    }


def set_tags(tracking: Tracking, request: SetModelTags) -> object:
    """Set tags of a logged model."""
    model_id = _to_change(tracking, request)
    models.set_tags(tracking.database, model_id, {tag.key: tag.value for tag in request.tags})
    return {}


def delete_tag(tracking: Tracking, request: DeleteModelTag) -> object:
    """Remove a tag of a logged model."""
    models.delete_tag(tracking.database, _to_change(tracking, request), request.tag_key)
    return {}


def log_params(tracking: Tracking, request: LogModelParams) -> object:
    """Log parameters of a logged model."""
    params = {param.key: param.value for param in request.params}
    models.log_params(tracking.database, _to_change(tracking, request), params)
    return {}


def _to_change(tracking: Tracking, request: ModelId) -> str:
    tracking.session.check_model(request.model_id)
    return request.model_id


def _model_response(tracking: Tracking, model: LoggedModel) -> object:
    return {"model": _for_client(tracking, model)}


def _for_client(tracking: Tracking, model: LoggedModel) -> responses.ModelSchema:
    return responses.model(structs.replace(model, artifact_uri=tracking.session.uri_for_client(model.artifact_uri)))


ROUTES = (
    Route("POST", "logged-models", CreateModel, create),
    Route("POST", "logged-models/search", SearchModels, search, writes=False, is_search=True),
    Route("GET", "logged-models/{model_id}", ModelId, get),
    Route("PATCH", "logged-models/{model_id}", FinalizeModel, finalize),
    Route("DELETE", "logged-models/{model_id}", ModelId, delete),
    Route("PATCH", "logged-models/{model_id}/tags", SetModelTags, set_tags),
    Route("DELETE", "logged-models/{model_id}/tags/{tag_key}", DeleteModelTag, delete_tag),
    Route("POST", "logged-models/{model_id}/params", LogModelParams, log_params),
)
