"""The endpoints for experiments."""

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
from runner.server.api.tracking import Route, Tracking
from runner.server.run.session import DELETED, RENAMED, RESTORED
from runner.store import experiments, search
from runner.store.entities import Experiment


def create(tracking: Tracking, asked: CreateExperiment) -> object:
    """Make an experiment."""
    tags = {tag.key: tag.value for tag in asked.tags}
    location = tracking.session.location_of(asked.artifact_location or "")
    experiment_id = experiments.create(tracking.database, asked.name, location, tags)
    tracking.session.experiment_named(experiment_id, created=True)
    return {"experiment_id": experiment_id}


def get(tracking: Tracking, asked: ExperimentId) -> object:
    """Tell of an experiment by its id."""
    found = experiments.get(tracking.database, str(asked.experiment_id))
    tracking.session.experiment_named(found.id)
    return {"experiment": _tell(tracking, found)}


def get_by_name(tracking: Tracking, asked: ExperimentName) -> object:
    """Tell of an experiment by its name."""
    found = experiments.find(tracking.database, asked.experiment_name)
    if found is None:
        raise NotFoundError(f"Could not find experiment with name '{asked.experiment_name}'")
    tracking.session.experiment_named(found.id)
    return {"experiment": _tell(tracking, found)}


def search_experiments(tracking: Tracking, asked: SearchExperiments) -> object:
    """Tell which experiments there are, a page at a time."""
    page = search.search_experiments(
        tracking.database,
        search.ExperimentQuery(
            filter=asked.filter or "",
            view=view_of(asked.view_type),
            order_by=asked.order_by,
            limit=asked.max_results,
            page_token=asked.page_token or None,
        ),
    )
    return {
        "experiments": [_tell(tracking, found) for found in page.items],
        **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
    }


def rename(tracking: Tracking, asked: RenameExperiment) -> object:
    """Give an experiment another name."""
    experiment_id = _to_change(tracking, asked, RENAMED)
    if asked.new_name is not None:
        experiments.rename(tracking.database, experiment_id, asked.new_name)
    return {}


def delete(tracking: Tracking, asked: ExperimentId) -> object:
    """Put an experiment aside."""
    experiments.delete(tracking.database, _to_change(tracking, asked, DELETED))
    return {}


def restore(tracking: Tracking, asked: ExperimentId) -> object:
    """Bring an experiment back."""
    experiments.restore(tracking.database, _to_change(tracking, asked, RESTORED))
    return {}


def set_tag(tracking: Tracking, asked: SetExperimentTag) -> object:
    """Set a tag of an experiment."""
    experiments.set_tag(tracking.database, _to_change(tracking, asked), asked.key, asked.value)
    return {}


def delete_tag(tracking: Tracking, asked: DeleteExperimentTag) -> object:
    """Remove a tag of an experiment."""
    experiments.delete_tag(tracking.database, _to_change(tracking, asked), asked.key)
    return {}


def _tell(tracking: Tracking, found: Experiment) -> responses.ExperimentShape:
    told = structs.replace(found, artifact_location=tracking.session.uri_told(found.artifact_location))
    return responses.experiment(told)


def _to_change(tracking: Tracking, asked: ExperimentId, deed: str = "") -> str:
    experiment_id = str(asked.experiment_id)
    tracking.session.check_experiment(tracking.database, experiment_id, deed)
    return experiment_id


ROUTES = (
    Route("POST", "experiments/create", CreateExperiment, create),
    Route("GET", "experiments/get", ExperimentId, get),
    Route("GET", "experiments/get-by-name", ExperimentName, get_by_name),
    Route("GET", "experiments/search", SearchExperiments, search_experiments),
    Route("POST", "experiments/search", SearchExperiments, search_experiments, writes=False),
    Route("GET", "experiments/list", SearchExperiments, search_experiments),
    Route("POST", "experiments/update", RenameExperiment, rename),
    Route("POST", "experiments/delete", ExperimentId, delete),
    Route("POST", "experiments/restore", ExperimentId, restore),
    Route("POST", "experiments/set-experiment-tag", SetExperimentTag, set_tag),
    Route("POST", "experiments/delete-experiment-tag", DeleteExperimentTag, delete_tag),
)
