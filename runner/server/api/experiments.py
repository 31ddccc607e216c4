"""Endpoints for experiments."""

from msgspec import structs

from runner.errors import NotFoundError
from runner.protocol import responses
from runner.protocol.requests import (
    CreateExperiment,
    DeleteExperimentTag,
    ExperimentId,
    ExperimentName,
    RenameExperiment,
    SearchExperiments,
    SetExperimentTag,
)
from runner.server.api.runs import view_of
from runner.server.api.session import DELETED, RENAMED, RESTORED
from runner.server.api.tracking import Route, Tracking
from runner.store import experiments, search
from runner.store.entities import Experiment


def create(tracking: Tracking, request: CreateExperiment) -> object:
    """Create an experiment."""
    tags = {tag.key: tag.value for tag in request.tags}
    location = tracking.session.location_of(request.artifact_location or "")
    experiment_id = experiments.create(tracking.database, request.name, location, tags)
    tracking.session.experiment_named(experiment_id, created=True)
    return {"experiment_id": experiment_id}


def get(tracking: Tracking, request: ExperimentId) -> object:
    """Get an experiment by its id."""
    found = experiments.get(tracking.database, str(request.experiment_id))
    tracking.session.experiment_named(found.id)
    return {"experiment": _for_client(tracking, found)}


def get_by_name(tracking: Tracking, request: ExperimentName) -> object:
    """Get an experiment by its name."""
    found = experiments.find(tracking.database, request.experiment_name)
    if found is None:
        raise NotFoundError(f"Could not find experiment with name '{request.experiment_name}'")
    tracking.session.experiment_named(found.id)
    return {"experiment": _for_client(tracking, found)}


def search_experiments(tracking: Tracking, request: SearchExperiments) -> object:
    """Search experiments; return one page."""
    page = search.search_experiments(
        tracking.database,
        search.ExperimentQuery(
            filter=request.filter or "",
            view=view_of(request.view_type),
            order_by=request.order_by,
            limit=request.max_results,
            page_token=request.page_token or None,
        ),
    )
    return {
        "experiments": [_for_client(tracking, found) for found in page.items],
        **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
    }


def rename(tracking: Tracking, request: RenameExperiment) -> object:
    """Rename an experiment."""
    experiment_id = _to_change(tracking, request, RENAMED)
    if request.new_name is not None:
        experiments.rename(tracking.database, experiment_id, request.new_name)
    return {}


def delete(tracking: Tracking, request: ExperimentId) -> object:
    """Mark an experiment as deleted."""
    experiments.delete(tracking.database, _to_change(tracking, request, DELETED))
    return {}


def restore(tracking: Tracking, request: ExperimentId) -> object:
    """Restore a deleted experiment."""
    experiments.restore(tracking.database, _to_change(tracking, request, RESTORED))
    return {}


def set_tag(tracking: Tracking, request: SetExperimentTag) -> object:
    """Set a tag of an experiment."""
    experiments.set_tag(tracking.database, _to_change(tracking, request), request.key, request.value)
    return {}


def delete_tag(tracking: Tracking, request: DeleteExperimentTag) -> object:
    """Remove a tag of an experiment."""
    experiments.delete_tag(tracking.database, _to_change(tracking, request), request.key)
    return {}


def _for_client(tracking: Tracking, found: Experiment) -> responses.ExperimentSchema:
    shown = structs.replace(found, artifact_location=tracking.session.uri_for_client(found.artifact_location))
    return responses.experiment(shown)


def _to_change(tracking: Tracking, request: ExperimentId, action: str = "") -> str:
    experiment_id = str(request.experiment_id)
    tracking.session.check_experiment(tracking.database, experiment_id, action)
    return experiment_id


ROUTES = (
    Route("POST", "experiments/create", CreateExperiment, create),
    Route("GET", "experiments/get", ExperimentId, get),
    Route("GET", "experiments/get-by-name", ExperimentName, get_by_name),
    Route("GET", "experiments/search", SearchExperiments, search_experiments, is_search=True),
    Route("POST", "experiments/search", SearchExperiments, search_experiments, writes=False, is_search=True),
    Route("GET", "experiments/list", SearchExperiments, search_experiments, is_search=True),
    Route("POST", "experiments/update", RenameExperiment, rename),
    Route("POST", "experiments/delete", ExperimentId, delete),
    Route("POST", "experiments/restore", ExperimentId, restore),
    Route("POST", "experiments/set-experiment-tag", SetExperimentTag, set_tag),
    Route("POST", "experiments/delete-experiment-tag", DeleteExperimentTag, delete_tag),
)
