"""Sends the logged models of a run to a server; MLflow 2 servers have none."""

from typing import NamedTuple

from msgspec import structs

from runner.base.tags import MODEL_ID_TAG
from runner.errors import RemoteError
from runner.store import lineage, models
from runner.store.artifacts import local_folder
from runner.store.database import Database
from runner.store.entities import LoggedModel, Metric, ModelStatus, NewModel, RunInputs
from runner.sync import sync_state
from runner.sync.files import local_files, send_files
from runner.sync.push_context import PushContext, as_json
from runner.sync.sync_state import RemoteRun, SentPosition

MODEL = "model"

_UNKNOWN = "unknown"


class _ServerModel(NamedTuple):
    """A model on the server."""

    model_id: str
    artifact_uri: str


def send_models(context: PushContext) -> dict[str, str]:
    """Send the models that a run logged and return their ids on the server, by local id.

    Raises:
        RemoteError: the server refuses a model.
    """
    logged = _models_of(context)
    if not logged:
        return {}
    known = sync_state.sent(context.database, context.copy, MODEL)
    try:
        theirs = (
            {} if _UNKNOWN in known else {one.model_id: _ensure_server_model(context, one, known) for one in logged}
        )
    except RemoteError as error:
        if not error.is_unknown_endpoint:
            raise
        sync_state.record_sent(context.database, context.copy, MODEL, {_UNKNOWN: SentPosition("")})
        context.leave_out(
            f"{len(logged)} logged models",
            "MLflow 2 servers have no logged models; their files are among the run's artifacts",
        )
        theirs = {}
    names = {model_id: found.model_id for model_id, found in theirs.items()}
    for model in logged:
        if model.status is not ModelStatus.PENDING or context.whole:
            _send_content(context, model, theirs.get(model.model_id), names)
    outputs = lineage.outputs(context.database, context.copy.run_id)
    sent = [structs.replace(one, model_id=names[one.model_id]) for one in outputs if one.model_id in names]
    if sent and context.changed("outputs", {"": as_json(sent)}):
        context.server.log_outputs(context.remote_run_id, sent)
        context.note("outputs", {"": as_json(sent)})
    return names


def send_inputs(context: PushContext, names: dict[str, str]) -> None:
    """Send the datasets and models that a run used as inputs.

    Raises:
        RemoteError: the server refuses them.
    """
    inputs = lineage.inputs(context.database, context.copy.run_id)
    datasets = {as_json(one): one for one in inputs.datasets}
    changed = context.changed("dataset", {text: text for text in datasets})
    models_read = tuple(names[model_id] for model_id in inputs.model_ids if model_id in names)
    if changed:
        context.server.log_inputs(context.remote_run_id, RunInputs(datasets=tuple(datasets[text] for text in changed)))
        context.note("dataset", changed)
        context.count(datasets=len(changed))
    if models_read and context.changed("models read", {"": as_json(models_read)}):
        context.server.log_inputs(context.remote_run_id, RunInputs(model_ids=models_read))
        context.note("models read", {"": as_json(models_read)})


def points_by_model(context: PushContext, names: dict[str, str]) -> dict[tuple[str, int, int], Metric]:
    """Return the points of a run that were measured on one of its models, with the server's model id."""
    return {
        (point.key, point.step, point.timestamp): structs.replace(point, model_id=names[model.model_id])
        for model in (_models_of(context) if names else ())
        for point in model.metrics
        if point.run_id == context.copy.run_id
    }


def location_of_model(db: Database, copy: RemoteRun, model_id: str) -> tuple[str, str] | None:
    """Return the server's id and artifact URI of a local model, or None if the server does not have it."""
    known = sync_state.sent(db, copy, MODEL).get(model_id)
    if known is None or not known.note:
        return None
    remote_id, _, artifact_uri = known.note.partition(" ")
    return remote_id, artifact_uri


def _models_of(context: PushContext) -> list[LoggedModel]:
    db, run_id = context.database, context.copy.run_id
    rows = db.query(
        "SELECT model_id FROM models WHERE source_run_id = ? AND lifecycle_stage = 'active' ORDER BY created_at, id",
        run_id,
    )
    return [models.get(db, row["model_id"]) for row in rows]


def _ensure_server_model(context: PushContext, model: LoggedModel, known: dict[str, SentPosition]) -> _ServerModel:
    """Return the server's state of a model; create the model if it does not exist."""
    before = known.get(model.model_id)
    if before is not None and before.note:
        model_id, _, artifact_uri = before.note.partition(" ")
        return _ServerModel(model_id, artifact_uri)
    server, experiment_id = context.server, context.copy.remote_experiment_id or ""
    found = None
    if before is not None:  # its creation may have been interrupted
        found = next(
            iter(server.search_logged_models([experiment_id], f"tags.`{MODEL_ID_TAG}` = '{model.model_id}'")), None
        )
    sync_state.record_sent(context.database, context.copy, MODEL, {model.model_id: SentPosition("")})
    if found is None:
        new = NewModel(
            experiment_id=experiment_id,
            name=model.name,
            model_type=model.model_type,
            source_run_id=context.remote_run_id,
            params=model.params,
            tags={**model.tags, MODEL_ID_TAG: model.model_id},
        )
        found = server.create_logged_model(new)
        context.count(models=1)
    note = f"{found.model_id} {found.artifact_uri}"
    sync_state.record_sent(context.database, context.copy, MODEL, {model.model_id: SentPosition("", note)})
    return _ServerModel(found.model_id, found.artifact_uri)


def _send_content(context: PushContext, model: LoggedModel, theirs: _ServerModel | None, names: dict[str, str]) -> None:
    """Send files, tags and status of a model; without the model on the server, send only the files, to the run."""
    root = local_folder(model.artifact_uri)
    files = local_files(context, root, model.model_id)
    destination = (
        context.location(theirs.artifact_uri, theirs.model_id)
        if theirs
        else context.location(context.copy.artifact_uri or "", context.remote_run_id)
    )
    ids = {**names, context.copy.run_id: context.remote_run_id}
    if destination is not None and theirs is not None:
        send_files(context, destination, files, f"{model.model_id}/", ids)
    elif destination is not None:
        send_files(context, destination, {f"{model.name}/{path}": file for path, file in files.items()}, "", ids)
    if theirs is None:
        return
    kind = f"tags of {model.model_id}"
    changed = context.changed(kind, model.tags)
    if changed:
        context.server.set_logged_model_tags(theirs.model_id, changed)
        context.note(kind, changed)
    state = {model.model_id: model.status.value}
    if model.status is not ModelStatus.PENDING and context.changed("state", state):
        context.server.finalize_logged_model(theirs.model_id, model.status)
        context.note("state", state)
