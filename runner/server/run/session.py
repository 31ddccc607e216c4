"""The session of the command of a run: its permissions, and its view of the runs that it writes to."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

from runner.base.tags import PARENT_TAG, SOURCE_TYPE_TAG
from runner.model import Event, EventKind, Report, RunStatus
from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.api.session import RESERVED, Session
from runner.server.api.sources import check_source
from runner.server.run.child_runs import ChildRuns, State
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Run


class ChildSession(Session):
    """The permissions of the command of one run, and the state of that run as the command sees it.

    A client ends the run at its exit, which can be long before the command ends, so the status is stored here, not in
    the record. The client also sees the experiment that it selected: an MLflow client refuses to attach to a run whose
    experiment differs from ``mlflow.set_experiment``. The record follows the script, unless the user gave --experiment.
    """

    def __init__(self, run_id: str, experiment_id: str, *, experiment_is_fixed: bool, report: Report) -> None:
        self._runs = ChildRuns(run_id)
        self._experiment_id = experiment_id
        self._experiment_is_fixed = experiment_is_fixed
        self._report = report
        self._has_selected = False
        """Whether the script selected the experiment of its own run."""
        self._experiments = {experiment_id}
        self._models: set[str] = set()

    @property
    def final_status(self) -> RunStatus | None:
        """The status that the client set at its end; None when it did not end the run."""
        status = self._runs.own.status
        return status if status is not None and status.is_over else None

    @property
    def created_runs(self) -> tuple[str, ...]:
        """The ids of the runs that the command created, oldest first."""
        return tuple(run.run_id for run in self._runs if run.is_created)

    @property
    def written_runs(self) -> tuple[str, ...]:
        """The ids of the other runs that the command created or wrote to."""
        return tuple(sorted(run.run_id for run in self._runs if run is not self._runs.own))

    def check_run(self, db: Database, run_id: str) -> None:
        """Permit writes to the own run, to runs that the command created, and to other runs without a live process.

        Scripts that evaluate the model of an earlier run write to it; both runs record this.

        Raises:
            RefusedError: another process is running the run.
        """
        if self._runs.find(run_id) is not None:
            return
        permissions = runs.find_permissions(db, run_id)
        if permissions.is_live:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"The run '{run_id}' belongs to another running process; '{self._runs.own.run_id}' can't write to it.",
            )
        runs.note_writer(db, run_id, self._runs.own.run_id)
        self._runs.add(run_id, State.RECORDED if permissions.is_recorded else State.EARLIER)
        self._notify(f"The command wrote to another run, {run_id}")

    def check_removal(self, db: Database, run_id: str) -> None:
        """Permit deleting runs, because they can be restored; report it for runs of others."""
        super().check_removal(db, run_id)
        run = self._runs.find(run_id)
        if run is None or not run.is_created:
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
        run = self._runs.find(run_id)
        if run is None or not run.is_recorded:
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
        self._runs.request_experiment(experiment_id)

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Set the parent of a new run without a parent to the run of the command."""
        return tags if PARENT_TAG in tags else {**tags, PARENT_TAG: self._runs.own.run_id}

    def run_created(self, run: Run) -> None:
        """Handle the creation of a run; a run of a project waits for a client to attach, as the own run does."""
        self._experiments.add(run.experiment_id)
        if run.tags.get(SOURCE_TYPE_TAG) != "PROJECT":
            self._runs.add(run.run_id, State.CREATED)
            return
        self._runs.add(run.run_id, State.PROJECT)
        # The experiment may be that of `mlflow.run(…, experiment_name=…)`, not of the script itself.
        self._has_selected = self._has_selected or self._runs.own.requested_experiment == run.experiment_id

    def run_for_client(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run with the status that its client set and the experiment that its client selected."""
        known = self._runs.find(run.run_id)
        return run if known is None else known.view(run, attaching=attaching)

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Handle that a client attaches to a run or ends it; return True when the record must not change."""
        run = self._runs.find(run_id)
        if run is None or status is None:
            return run is self._runs.own
        transition, selected = run.apply(status, ended_at)
        if selected is not None and run is self._runs.own:
            self._follow(db, selected)
        elif selected is not None:
            runs.move(db, run_id, selected)
        return not transition.stores

    def _follow(self, db: Database, named: str) -> None:
        """Move the run to the first experiment that the script selects, unless the user gave --experiment."""
        if self._has_selected or named == self._experiment_id:
            return
        self._has_selected = True
        target = experiments.get(db, named)
        if self._experiment_is_fixed:
            message = f"The script selects the experiment '{target.name}'; the run stays in the one that you selected"
            self._notify(message, hint="Change it with --experiment.")
            return
        runs.move(db, self._runs.own.run_id, named)
        self._experiments.add(named)
        self._notify(
            f"The run is in the experiment '{target.name}', which its script selects", hint="--experiment overrides it."
        )

    def _notify(self, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
