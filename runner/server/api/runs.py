"""The endpoints for runs and for what they log."""

import time

import msgspec
from msgspec import UNSET, structs

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
from runner.store.run_links import runs_with_links

_STATUS_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}

_MODEL_HISTORY_TAG = "mlflow.log-model.history"
_MODEL_WORDS = ("run_id", "artifact_path", "utc_time_created", "model_uuid")


def create(tracking: Tracking, asked: CreateRun) -> object:
    """Open a run."""
    tags = {tag.key: tag.value for tag in asked.tags}
    run = runs.create(
        tracking.database,
        NewRun(
            experiment_id="0" if asked.experiment_id is None else str(asked.experiment_id),
            name=asked.run_name or None,
            user=asked.user_id or tags.get("mlflow.user", ""),
            # 0 is what clients send that don't know the time.
            started_at=asked.start_time or None,
            tags=tracking.session.tags_of_new_run(tags),
        ),
    )
    tracking.session.run_created(run)
    return {"run": responses.run(_tell(tracking, run))}


def get(tracking: Tracking, asked: AnyRun) -> object:
    """Tell of a run."""
    run = _tell(tracking, runs.get(tracking.database, run_of(asked)), attaching=True)
    return {"run": _shape(tracking, run)}


def update(tracking: Tracking, asked: UpdateRun) -> object:
    """Change status, end or name of a run."""
    run_id = run_to_change(tracking, asked)
    status = status_of(asked.status)
    kept_out = tracking.session.run_updated(tracking.database, run_id, status, asked.end_time)
    run = runs.update(
        tracking.database,
        run_id,
        status=UNSET if kept_out or status is None else status,
        ended_at=UNSET if kept_out or asked.end_time is None else asked.end_time,
        name=asked.run_name or UNSET,
    )
    return {"run_info": responses.run_info(_tell(tracking, run))}


def delete(tracking: Tracking, asked: AnyRun) -> object:
    """Put a run aside."""
    tracking.session.check_removal(tracking.database, run_of(asked))
    runs.delete(tracking.database, run_of(asked))
    return {}


def restore(tracking: Tracking, asked: AnyRun) -> object:
    """Bring a run back."""
    tracking.session.check_removal(tracking.database, run_of(asked))
    runs.restore(tracking.database, run_of(asked))
    return {}


def search_runs(tracking: Tracking, asked: SearchRuns) -> object:
    """Tell which runs there are, a page at a time."""
    page = search.search_runs(
        tracking.database,
        search.SearchQuery(
            experiment_ids=tuple(str(experiment_id) for experiment_id in asked.experiment_ids),
            filter=asked.filter or "",
            order_by=asked.order_by,
            view=view_of(asked.run_view_type),
            limit=asked.max_results,
            page_token=asked.page_token or None,
        ),
    )
    told = [_tell(tracking, run) for run in page.items]
    users = runs_with_links(tracking.database, [run.run_id for run in told])
    found = [_shape(tracking, run) if run.run_id in users else responses.run(run) for run in told]
    return {"runs": found, **({"next_page_token": page.next_page_token} if page.next_page_token else {})}


def log_metric(tracking: Tracking, asked: LogMetric) -> object:
    """Keep one point of a metric."""
    values.log_metrics(tracking.database, run_to_change(tracking, asked), [_metric(asked)])
    return {}


def log_param(tracking: Tracking, asked: LogParam) -> object:
    """Keep a parameter."""
    values.log_params(tracking.database, run_to_change(tracking, asked), [(asked.key, asked.value)])
    return {}


def set_tag(tracking: Tracking, asked: SetTag) -> object:
    """Set a tag of a run."""
    _set_tags(tracking, run_to_change(tracking, asked), [(asked.key, asked.value)])
    return {}


def delete_tag(tracking: Tracking, asked: DeleteTag) -> object:
    """Remove a tag of a run."""
    run_id = run_to_change(tracking, asked)
    if tracking.session.free_tags(tracking.database, run_id, [asked.key]):
        values.delete_tag(tracking.database, run_id, asked.key)
    return {}


def log_batch(tracking: Tracking, asked: LogBatch) -> object:
    """Keep metrics, parameters and tags, all of them or none."""
    run_id = run_to_change(tracking, asked)
    check_batch(metrics=len(asked.metrics), params=len(asked.params), tags=len(asked.tags))
    with tracking.database.transaction():
        values.log_params(tracking.database, run_id, [(param.key, param.value) for param in asked.params])
        values.log_metrics(tracking.database, run_id, [_metric(metric) for metric in asked.metrics])
        _set_tags(tracking, run_id, [(tag.key, tag.value) for tag in asked.tags])
    return {}


def log_model(tracking: Tracking, asked: LogModel) -> object:
    """Keep the description of a model in the tag where MLflow keeps it; the newest ones, where not all fit."""
    run_id = run_to_change(tracking, asked)
    described = msgspec.json.decode(asked.model_json, type=dict[str, object])
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


def log_inputs(tracking: Tracking, asked: LogInputs) -> object:
    """Keep which datasets and models a run read."""
    lineage.log_inputs(
        tracking.database,
        run_to_change(tracking, asked),
        [
            DatasetInput(
                dataset=msgspec.convert(msgspec.to_builtins(one.dataset), Dataset),
                tags={tag.key: tag.value for tag in one.tags},
            )
            for one in asked.datasets
        ],
        [model.model_id for model in asked.models],
    )
    return {}


def log_outputs(tracking: Tracking, asked: LogOutputs) -> object:
    """Keep which models a run made."""
    outputs = [ModelOutput(model_id=one.model_id, step=one.step) for one in asked.models]
    lineage.log_outputs(tracking.database, run_to_change(tracking, asked), outputs)
    return {}


def status_of(word: str | int | None) -> RunStatus | None:
    """Return the status that a client names, or None where it names none.

    Raises:
        RefusedError: MLflow has no such status.
    """
    if word is None:
        return None
    name = _STATUS_NUMBERS.get(word) if isinstance(word, int) else word
    if name not in _STATUS_NUMBERS.values():
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"'{str(word)[:40]}' is no status of a run.")
    return RunStatus(name)


def view_of(word: str) -> View:
    """Return the lifecycle stages that a client asks for.

    Raises:
        RefusedError: MLflow has no such view.
    """
    try:
        return View(word)
    except ValueError:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"'{word[:40]}' is no view type.") from None


def _in_short(described: dict[str, object]) -> dict[str, object]:
    """Return of a model what MLflow keeps in the tag: neither signatures nor what a flavor is configured with."""
    flavors = described.get("flavors")
    named = flavors.items() if isinstance(flavors, dict) else ()
    short = {
        flavor: {key: value for key, value in words.items() if key != "config"} if isinstance(words, dict) else words
        for flavor, words in named
    }
    return {key: described[key] for key in _MODEL_WORDS if key in described} | {"flavors": short}


def _set_tags(tracking: Tracking, run_id: str, tags: list[tuple[str, str]]) -> None:
    free = tracking.session.free_tags(tracking.database, run_id, (key for key, _ in tags))
    values.set_tags(tracking.database, run_id, [(key, value) for key, value in tags if key in free])


def _tell(tracking: Tracking, run: Run, *, attaching: bool = False) -> Run:
    told = tracking.session.run_told(run, attaching=attaching)
    return structs.replace(told, artifact_uri=tracking.session.uri_told(told.artifact_uri))


def _shape(tracking: Tracking, run: Run) -> responses.RunShape:
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
    Route("POST", "runs/search", SearchRuns, search_runs, writes=False),
    Route("POST", "runs/log-metric", LogMetric, log_metric),
    Route("POST", "runs/log-parameter", LogParam, log_param),
    Route("POST", "runs/set-tag", SetTag, set_tag),
    Route("POST", "runs/delete-tag", DeleteTag, delete_tag),
    Route("POST", "runs/log-batch", LogBatch, log_batch),
    Route("POST", "runs/log-model", LogModel, log_model),
    Route("POST", "runs/log-inputs", LogInputs, log_inputs),
    Route("POST", "runs/outputs", LogOutputs, log_outputs),
)
