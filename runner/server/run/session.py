"""Sessions: what clients of a server may change, and the view of a command of its run."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

import msgspec

from runner.model import Event, EventKind, Report, RunStatus
from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.api.sources import check_location, check_source
from runner.store import experiments
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.experiment_changes import move_run
from runner.store.run_permissions import find_permissions, has_live_runs, note_writer

PARENT_TAG = "mlflow.parentRunId"
SOURCE_TYPE_TAG = "mlflow.source.type"

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
        if find_permissions(db, run_id).is_live:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED, f"The run '{run_id}' is still running; it can't be deleted."
            )

    def check_experiment(self, db: Database, experiment_id: str, action: str = "") -> None:
        """Check that a client may change an experiment; ``action`` names a deletion, a restoration or a new name.

        Raises:
            RefusedError: the experiment would be deleted while one of its runs is running.
        """
        if action == DELETED and has_live_runs(db, experiment_id):
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
        if reserved and find_permissions(db, run_id).is_recorded:
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
        return status is not None and find_permissions(db, run_id).is_recorded


class ChildSession(Session):
    """The permissions of the command of one run, and the state of that run as the command sees it.

    A client ends the run at its exit, which can be long before the command ends, so the status is stored here, not in
    the record. The client also sees the experiment that it selected: an MLflow client refuses to attach to a run whose
    experiment differs from ``mlflow.set_experiment``. The record follows the script, unless the user gave --experiment.
    """

    def __init__(self, run_id: str, experiment_id: str, *, experiment_is_fixed: bool, report: Report) -> None:
        self.run_id = run_id
        self.status: RunStatus | None = None
        self.ended_at: int | None = None
        self.created_runs: list[str] = []
        self._made: set[str] = set()
        self._writable = {run_id}
        self._recorded = {run_id}
        self._experiment_is_fixed = experiment_is_fixed
        self._report = report
        self._experiment_id = experiment_id
        self._experiments = {experiment_id}
        self._models: set[str] = set()
        self._moved = False
        self._waiting = [run_id]
        self._named: dict[str, str] = {}
        self._shown_experiments: dict[str, str] = {}
        self._reopened: dict[str, tuple[RunStatus, int | None]] = {}

    @property
    def final_status(self) -> RunStatus | None:
        """The status that the client set at its end; None when it did not end the run."""
        return self.status if self.status is not None and self.status.is_over else None

    @property
    def written_runs(self) -> tuple[str, ...]:
        """The ids of the other runs that the command created or wrote to."""
        return tuple(sorted(self._writable - {self.run_id}))

    def check_run(self, db: Database, run_id: str) -> None:
        """Permit writes to the own run, to runs that the command created, and to other runs without a live process.

        Scripts that evaluate the model of an earlier run write to it; both runs record this.

        Raises:
            RefusedError: another process is running the run.
        """
        if run_id in self._writable:
            return
        permissions = find_permissions(db, run_id)
        if permissions.is_live:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"The run '{run_id}' belongs to another running process; '{self.run_id}' can't write to it.",
            )
        note_writer(db, run_id, self.run_id)
        self._writable.add(run_id)
        self._recorded |= {run_id} if permissions.is_recorded else set()
        self._notify(f"The command wrote to another run, {run_id}")

    def check_removal(self, db: Database, run_id: str) -> None:
        """Permit deleting runs, because they can be restored; report it for runs of others."""
        super().check_removal(db, run_id)
        if run_id not in self._made:
            self._notify(f"The command deleted or restored another run, {run_id}")

    def check_experiment(self, db: Database, experiment_id: str, action: str = "") -> None:
        """Permit changing experiments; report it for experiments of others."""
        super().check_experiment(db, experiment_id, action)
        if action and experiment_id not in self._experiments:
            name = experiments.get(db, experiment_id).name
            self._notify(f"The command {action} the experiment '{name}', which it did not create")

    def check_model(self, model_id: str, action: str = "") -> None:
        """Permit changing logged models, because registering one tags it; report it for models of others."""
        if action and model_id not in self._models:
            self._notify(f"The command {action} the logged model {model_id}, which it did not create")

    def removed(self, what: str) -> None:
        """Report that the command removed an object from the registry."""
        self._notify(f"The command removed {what}")

    def free_tags(self, db: Database, run_id: str, keys: Iterable[str]) -> frozenset[str]:
        """Return the tags that the command may set; the others are ignored, so that scripts run as with MLflow."""
        del db
        named = frozenset(keys)
        if run_id not in self._recorded:
            return named
        reserved = {key for key in named if key.startswith(RESERVED)}
        for key in sorted(reserved):
            self._notify(f"The command set the tag '{key}'; the value that proj recorded is kept")
        return named - reserved

    def uri_for_client(self, uri: str) -> str:
        """Return a local folder as a plain path: clients before MLflow 1.0 take a URL for the name of a folder.

        A path with characters that a URL must escape, except spaces, stays a URL: later clients parse paths as URLs.
        """
        path = unquote(urlsplit(uri).path)
        is_plain = uri == f"file://{quote(path)}" and quote(path, safe="/ ") == path
        return path if is_plain else uri

    def uri_of_source(self, uri: str) -> str:
        """Return the stored URI of the files of a model version; the command may name any local folder."""
        check_source(uri)
        return f"file://{quote(uri)}" if uri.startswith("/") else uri

    def model_created(self, model_id: str) -> None:
        """Handle the creation of a logged model."""
        self._models.add(model_id)

    def experiment_named(self, experiment_id: str, *, created: bool = False) -> None:
        """Remember the experiment that the script requested before it attaches to its run.

        The server does not see ``mlflow.set_experiment``, only the request for an experiment.
        """
        if created:
            self._experiments.add(experiment_id)
        if self._waiting:
            self._named[self._waiting[-1]] = experiment_id

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Set the parent of a new run without a parent to the run of the command."""
        return tags if PARENT_TAG in tags else {**tags, PARENT_TAG: self.run_id}

    def run_created(self, run: Run) -> None:
        """Handle the creation of a run; a run of a project waits for a client to attach, as the own run does."""
        self.created_runs.append(run.run_id)
        self._made.add(run.run_id)
        self._writable.add(run.run_id)
        self._experiments.add(run.experiment_id)
        if run.tags.get(SOURCE_TYPE_TAG) == "PROJECT":
            # The experiment may be that of `mlflow.run(…, experiment_name=…)`, not of the script itself.
            self._moved = self._moved or self._named.get(self.run_id) == run.experiment_id
            self._waiting.append(run.run_id)

    def run_for_client(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run with the status that its client set and the experiment that its client selected."""
        if run.run_id == self.run_id and self.status is not None:
            run = msgspec.structs.replace(run, status=self.status, ended_at=self.ended_at)
        elif run.run_id in self._reopened:
            status, ended_at = self._reopened[run.run_id]
            run = msgspec.structs.replace(run, status=status, ended_at=ended_at)
        shown = self._shown_experiments.get(run.run_id)
        if attaching and run.run_id in self._waiting:
            shown = self._named.get(run.run_id, shown)
        return run if shown is None else msgspec.structs.replace(run, experiment_id=shown)

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Handle that a client attaches to a run or ends it; the record of the command's own run stays open."""
        if status is RunStatus.RUNNING:
            self._attach(db, run_id)
        elif status is not None and status.is_over and run_id in self._waiting:
            self._waiting.remove(run_id)
        if run_id != self.run_id:
            return run_id not in self._made and self._reopen(run_id, status, ended_at)
        if status is not None:
            self.status = status
            self.ended_at = ended_at if status.is_over else None
            # The next script of a command (`python a.py && python b.py`) attaches again, with its own experiment.
            if status.is_over and run_id not in self._waiting:
                self._waiting.insert(0, run_id)
        return True

    def _reopen(self, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Handle that a client attaches to an earlier run, or ends it; return True when the record must not change.

        The final status of a run that proj recorded is kept. Other runs are not set to running again: they would stay
        running when the command is killed.
        """
        if status is None:
            return False
        self._reopened[run_id] = (status, ended_at if status.is_over else None)
        return run_id in self._recorded or not status.is_over

    def _attach(self, db: Database, run_id: str) -> None:
        if run_id not in self._waiting:
            return
        self._waiting.remove(run_id)
        named = self._named.pop(run_id, None)
        if named is None:
            return
        self._shown_experiments[run_id] = named
        if run_id == self.run_id:
            self._follow(db, named)
        else:
            move_run(db, run_id, named)

    def _follow(self, db: Database, named: str) -> None:
        """Move the run to the first experiment that the script selects, unless the user gave --experiment."""
        if self._moved or named == self._experiment_id:
            return
        self._moved = True
        target = experiments.get(db, named)
        if self._experiment_is_fixed:
            message = f"The script selects the experiment '{target.name}'; the run stays in the one that you selected"
            self._notify(message, hint="Change it with --experiment.")
            return
        move_run(db, self.run_id, named)
        self._experiments.add(named)
        self._notify(
            f"The run is in the experiment '{target.name}', which its script selects", hint="--experiment overrides it."
        )

    def _notify(self, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
