"""The permissions of the clients of a server, and the conversions between stored values and those of the clients."""

from collections.abc import Iterable, Mapping

from runner.model import RunStatus
from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.api.sources import check_location, check_source
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import Run

RESERVED = ("proj.", "mlflow.source.", "mlflow.project.")
"""Prefixes of the tags in which proj records the source of a run."""

DELETED = "deleted"
RESTORED = "restored"
RENAMED = "renamed"


class Session:
    """The permissions of a client, and the conversions between stored values and the values that a client sees.

    This base class permits every change that does not falsify the record of proj.
    """

    def check_run(self, db: Database, run_id: str) -> None:
        """Check that a client may write to a run.

        Raises:
            RefusedError: the client may not.
        """

    def check_removal(self, db: Database, run_id: str) -> None:
        """Check that a client may delete or restore a run.

        Raises:
            RefusedError: the run is still running.
        """
        if runs.find_permissions(db, run_id).is_live:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED, f"The run '{run_id}' is still running; it can't be deleted."
            )

    def check_experiment(self, db: Database, experiment_id: str, action: str = "") -> None:
        """Check that a client may change an experiment; ``action`` names a deletion, a restoration or a new name.

        Raises:
            RefusedError: the experiment would be deleted while one of its runs is running.
        """
        if action == DELETED and runs.has_live_runs(db, experiment_id):
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"A run in the experiment '{experiment_id}' is still running; the experiment can't be deleted.",
            )

    def check_model(self, model_id: str, action: str = "") -> None:
        """Check that a client may change a logged model; ``action`` names a deletion."""

    def removed(self, what: str) -> None:
        """Handle the removal of an object from the registry."""

    def free_tags(self, db: Database, run_id: str, keys: Iterable[str]) -> frozenset[str]:
        """Return the tags of a run that the client may set; the others keep the values that proj recorded.

        Raises:
            RefusedError: a tag may not be set.
        """
        named = frozenset(keys)
        reserved = {key for key in named if key.startswith(RESERVED)}
        if reserved and runs.find_permissions(db, run_id).is_recorded:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"proj recorded the tag '{min(reserved)}' of this run; it can't be changed.",
            )
        return named

    def uri_for_client(self, uri: str) -> str:
        """Convert a stored artifact URI to the one for the client."""
        return uri

    def uri_of_source(self, uri: str) -> str:
        """Convert the source of a model version that a client sent to the stored URI.

        Raises:
            RefusedError: the client may not use this location.
        """
        check_source(uri)
        return uri

    def location_of(self, uri: str) -> str | None:
        """Return the artifact location of a new experiment that a client sent; None for the default location.

        Raises:
            RefusedError: the client may not use this location.
        """
        # The proxy has only the default location.
        if not uri or uri.startswith("mlflow-artifacts:"):
            return None
        check_location(uri)
        return uri

    def experiment_named(self, experiment_id: str, *, created: bool = False) -> None:
        """Handle the request for an experiment, or its creation."""

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Return the tags of a new run."""
        return tags

    def id_of_new_run(self, run_id: str | None, tags: Mapping[str, str]) -> str | None:
        """Return the id that a client may choose for a new run; None for a new id.

        Raises:
            RefusedError: the request does not come from `proj push`.
        """
        del run_id, tags
        return None

    def run_created(self, run: Run) -> None:
        """Handle the creation of a run."""

    def model_created(self, model_id: str) -> None:
        """Handle the creation of a logged model."""

    def run_for_client(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run with the values for the client; ``attaching`` when the client requested this single run."""
        del attaching
        return run

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Handle a new status of a run; return True when the record must not change."""
        del ended_at
        return status is not None and runs.find_permissions(db, run_id).is_recorded
