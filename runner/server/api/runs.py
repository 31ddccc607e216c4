"""Endpoints for runs and their logged values."""

import time

import msgspec
from msgspec import UNSET, structs

from runner.base.tags import USER_TAG
from runner.model import RunStatus
from runner.protocol import responses
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import (
    AnyRun,
    CreateRun,
    DeleteTag,
    LogBatch,
    LogInputs,
    LogMetric,
    LogModel,
    LogOutputs,
    LogParam,
    SearchRuns,
    SentMetric,
    SetTag,
    UpdateRun,
)
from runner.server.api.tracking import Route, Tracking, run_of, run_to_change
from runner.store import lineage, runs, search, values
from runner.store.entities import Dataset, DatasetInput, Metric, ModelOutput, NewRun, Run, View
from runner.store.rules import MAX_VALUE, check_batch

_STATUS_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}

_MODEL_HISTORY_TAG = "mlflow.log-model.history"
_MODEL_FIELDS = ("run_id", "artifact_path", "utc_time_created", "model_uuid")


def create(tracking: Tracking, request: CreateRun) -> object:
    """Create a run."""
    tags = {tag.key: tag.value for tag in request.tags}
    run = runs.create(
        tracking.database,
        NewRun(
            experiment_id="0" if request.experiment_id is None else str(request.experiment_id),
            run_id=tracking.session.id_of_new_run(request.proj_run_id, tags),
            name=request.run_name or None,
            user=request.user_id or tags.get(USER_TAG, ""),
            # Clients that do not know the time send 0.
            started_at=request.start_time or None,
            tags=tracking.session.tags_of_new_run(tags),
        ),
    )
    tracking.session.run_created(run)
    return {"run": responses.run(_for_client(tracking, run))}


def get(tracking: Tracking, request: AnyRun) -> object:
    """Get a run."""
    run = _for_client(tracking, runs.get(tracking.database, run_of(request)), attaching=True)
    return {"run": _with_links(tracking, run)}


def update(tracking: Tracking, request: UpdateRun) -> object:
    """Update the status, end time or name of a run."""
    run_id = run_to_change(tracking, request)
    status = status_of(request.status)
    kept_out = tracking.session.run_updated(tracking.database, run_id, status, request.end_time)
    run = runs.update(
        tracking.database,
        run_id,
        status=UNSET if kept_out or status is None else status,
        ended_at=UNSET if kept_out or request.end_time is None else request.end_time,
        name=request.run_name or UNSET,
    )
    return {"run_info": responses.run_info(_for_client(tracking, run))}


def delete(tracking: Tracking, request: AnyRun) -> object:
    """Mark a run as deleted."""
    tracking.session.check_removal(tracking.database, run_of(request))
    runs.delete(tracking.database, run_of(request))
    return {}


def restore(tracking: Tracking, request: AnyRun) -> object:
    """Restore a deleted run."""
    tracking.session.check_removal(tracking.database, run_of(request))
    runs.restore(tracking.database, run_of(request))
    return {}


def search_runs(tracking: Tracking, request: SearchRuns) -> object:
    """Search runs; return one page."""
    page = search.search_runs(
        tracking.database,
        search.SearchQuery(
            experiment_ids=tuple(str(experiment_id) for experiment_id in request.experiment_ids),
            filter=request.filter or "",
            order_by=request.order_by,
            view=view_of(request.run_view_type),
            limit=request.max_results,
            page_token=request.page_token or None,
        ),
    )
    shown = [_for_client(tracking, run) for run in page.items]
    users = lineage.runs_with_links(tracking.database, [run.run_id for run in shown])
    found = [_with_links(tracking, run) if run.run_id in users else responses.run(run) for run in shown]
    return {"runs": found, **({"next_page_token": page.next_page_token} if page.next_page_token else {})}


def log_metric(tracking: Tracking, request: LogMetric) -> object:
    """Log one value of a metric."""
    values.log_metrics(tracking.database, run_to_change(tracking, request), [_metric(request)])
    return {}


def log_param(tracking: Tracking, request: LogParam) -> object:
    """Log a parameter."""
    values.log_params(tracking.database, run_to_change(tracking, request), [(request.key, request.value)])
    return {}


def set_tag(tracking: Tracking, request: SetTag) -> object:
    """Set a tag of a run."""
    _set_tags(tracking, run_to_change(tracking, request), [(request.key, request.value)])
    return {}


def delete_tag(tracking: Tracking, request: DeleteTag) -> object:
    """Remove a tag of a run."""
    run_id = run_to_change(tracking, request)
    if tracking.session.free_tags(tracking.database, run_id, [request.key]):
        values.delete_tag(tracking.database, run_id, request.key)
    return {}


def log_batch(tracking: Tracking, request: LogBatch) -> object:
    """Log metrics, parameters and tags; all of them are stored, or none."""
    run_id = run_to_change(tracking, request)
    check_batch(metrics=len(request.metrics), params=len(request.params), tags=len(request.tags))
    with tracking.database.transaction():
        values.log_params(tracking.database, run_id, [(param.key, param.value) for param in request.params])
        values.log_metrics(tracking.database, run_id, [_metric(metric) for metric in request.metrics])
        _set_tags(tracking, run_id, [(tag.key, tag.value) for tag in request.tags])
    return {}


def log_model(tracking: Tracking, request: LogModel) -> object:
    """Store the description of a model in MLflow's tag; the oldest descriptions are dropped when they do not fit."""
    run_id = run_to_change(tracking, request)
    described = msgspec.json.decode(request.model_json, type=dict[str, object])
    with tracking.database.transaction():
        known = runs.get(tracking.database, run_id).tags.get(_MODEL_HISTORY_TAG, "[]")
        short = msgspec.Raw(msgspec.json.encode(_in_short(described)))
        history = [*msgspec.json.decode(known, type=list[msgspec.Raw]), short]
        text = msgspec.json.encode(history).decode()
        while len(text) > MAX_VALUE:
            history.pop(0)
            text = msgspec.json.encode(history).decode()
        values.set_tags(tracking.database, run_id, [(_MODEL_HISTORY_TAG, text)])
    return {}


def log_inputs(tracking: Tracking, request: LogInputs) -> object:
    """Log the datasets and models that a run read."""
    lineage.log_inputs(
        tracking.database,
        run_to_change(tracking, request),
        [
            DatasetInput(
                dataset=msgspec.convert(msgspec.to_builtins(one.dataset), Dataset),
                tags={tag.key: tag.value for tag in one.tags},
            )
            for one in request.datasets
        ],
        [model.model_id for model in request.models],
    )
    return {}


def log_outputs(tracking: Tracking, request: LogOutputs) -> object:
    """Log the models that a run created."""
    outputs = [ModelOutput(model_id=one.model_id, step=one.step) for one in request.models]
    lineage.log_outputs(tracking.database, run_to_change(tracking, request), outputs)
    return {}


def status_of(word: str | int | None) -> RunStatus | None:
    """Return the status that a client sent; None when it sent none.

    Raises:
        RefusedError: MLflow has no such status.
    """
    if word is None:
        return None
    name = _STATUS_NUMBERS.get(word) if isinstance(word, int) else word
    if name not in _STATUS_NUMBERS.values():
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"'{str(word)[:40]}' is not a status of a run.")
    return RunStatus(name)


def view_of(word: str) -> View:
    """Return the lifecycle stages that a client requests.

    Raises:
        RefusedError: MLflow has no such view.
    """
    try:
        return View(word)
    except ValueError:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"'{word[:40]}' is not a view type.") from None


def _in_short(described: dict[str, object]) -> dict[str, object]:
    """Return the part of a model description that MLflow stores in the tag: no signatures, no flavor configuration."""
    flavors = described.get("flavors")
    named = flavors.items() if isinstance(flavors, dict) else ()
    short = {
        flavor: {key: value for key, value in fields.items() if key != "config"} if isinstance(fields, dict) else fields
        for flavor, fields in named
    }
    return {key: described[key] for key in _MODEL_FIELDS if key in described} | {"flavors": short}


def _set_tags(tracking: Tracking, run_id: str, tags: list[tuple[str, str]]) -> None:
    free = tracking.session.free_tags(tracking.database, run_id, (key for key, _ in tags))
    values.set_tags(tracking.database, run_id, [(key, value) for key, value in tags if key in free])


def _for_client(tracking: Tracking, run: Run, *, attaching: bool = False) -> Run:
    shown = tracking.session.run_for_client(run, attaching=attaching)
    return structs.replace(shown, artifact_uri=tracking.session.uri_for_client(shown.artifact_uri))


def _with_links(tracking: Tracking, run: Run) -> responses.RunSchema:
    read, made = lineage.inputs(tracking.database, run.run_id), lineage.outputs(tracking.database, run.run_id)
    return responses.run(run, responses.run_inputs(read), responses.run_outputs(made))


def _metric(sent: LogMetric | SentMetric) -> Metric:
    return Metric(
        key=sent.key,
        value=sent.value,
        timestamp=time.time_ns() // 1_000_000 if sent.timestamp is None else sent.timestamp,
        step=sent.step,
        model_id=sent.model_id,
        dataset_name=sent.dataset_name,
        dataset_digest=sent.dataset_digest,
    )


ROUTES = (
    Route("POST", "runs/create", CreateRun, create),
    Route("GET", "runs/get", AnyRun, get),
    Route("POST", "runs/update", UpdateRun, update),
    Route("POST", "runs/delete", AnyRun, delete),
    Route("POST", "runs/restore", AnyRun, restore),
    Route("POST", "runs/search", SearchRuns, search_runs, writes=False, is_search=True),
    Route("POST", "runs/log-metric", LogMetric, log_metric),
    Route("POST", "runs/log-parameter", LogParam, log_param),
    Route("POST", "runs/set-tag", SetTag, set_tag),
    Route("POST", "runs/delete-tag", DeleteTag, delete_tag),
    Route("POST", "runs/log-batch", LogBatch, log_batch),
    Route("POST", "runs/log-model", LogModel, log_model),
    Route("POST", "runs/log-inputs", LogInputs, log_inputs),
    Route("POST", "runs/outputs", LogOutputs, log_outputs),
)
