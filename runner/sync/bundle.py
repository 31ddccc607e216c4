"""Reads the run bundle: the files that proj adds to the artifacts of a run on a server."""

from urllib.parse import unquote, urlsplit

from runner.base.tags import RUN_ID_TAG, TREE_TAG
from runner.errors import InvalidValueError, NotFoundError, RemoteError
from runner.model import RunRecord
from runner.store.entities import LoggedModel
from runner.store.row_helpers import RUN_ID
from runner.sync import bundle_records
from runner.sync.artifact_locations import ArtifactLocation
from runner.sync.client import RemoteServer, ServerRun


def original_run_id(run: ServerRun) -> str:
    """Return the id that proj gave a run before it was pushed, else the server's id."""
    named = run.tags.get(RUN_ID_TAG, "")
    return named if RUN_ID.fullmatch(named) else run.run_id


def read_record(run: ServerRun, location: ArtifactLocation | None) -> RunRecord | None:
    """Return the record in the run bundle, or None if there is no readable one."""
    if location is None or TREE_TAG not in run.tags:
        return None
    try:
        return bundle_records.parse_record(location.pieces(bundle_records.RECORD))
    except (RemoteError, NotFoundError, InvalidValueError):
        return None


def models_of(server: RemoteServer, run: ServerRun) -> tuple[LoggedModel, ...]:
    """Return the logged models that a run made; MLflow 2 servers have none."""
    try:
        return tuple(server.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'"))
    except RemoteError as error:
        if error.is_unknown_endpoint:
            return ()
        raise


def location_of(server: RemoteServer, artifact_uri: str, owner: str) -> ArtifactLocation | None:
    """Return the artifact location of a run or a model, or None if it is not accessible or not allowed.

    A server may name any folder of this machine. A folder is accepted only if its path contains the owner's id, as
    MLflow's artifact folders do.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme in ("", "file") and owner not in unquote(parts.path).split("/"):
        return None
    return server.location(artifact_uri)
