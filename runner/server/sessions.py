"""On whose behalf a server answers: what a token may change, and what the child of a run is told about its own run."""

from collections.abc import Mapping

import msgspec

from runner.model import Event, EventKind, Report, RunStatus
from runner.server.answers import ErrorCode, RefusedError
from runner.store import experiments
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.moves import move_run

PARENT_TAG = "mlflow.parentRunId"
SOURCE_TYPE_TAG = "mlflow.source.type"


class Session:
    """The rights of whoever holds a server's token: here, everything."""

    def check_run(self, run_id: str) -> None:
        """Refuse a change of a run that is not the caller's.

        Raises:
            RefusedError: it is not.
        """

    def check_experiment(self, experiment_id: str) -> None:
        """Refuse a change of an experiment that is not the caller's.

        Raises:
            RefusedError: it is not.
        """

    def experiment_named(self, experiment_id: str, *, created: bool = False) -> None:
        """Learn that a client asked for an experiment, or made it."""

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Return the tags that a new run gets."""
        return tags

    def run_created(self, run: Run) -> None:
        """Learn that a client made a run."""

    def check_model(self, model_id: str) -> None:
        """Refuse a change of a logged model that is not the caller's.

        Raises:
            RefusedError: it is not.
        """

    def model_created(self, model_id: str) -> None:
        """Learn that a client made a logged model."""

    def run_told(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run as the client is told of it; ``attaching`` when it asked for just this run."""
        del attaching
        return run

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Learn that a client set the status of a run; True when the record keeps that out."""
        del db, run_id, status, ended_at
        return False


class ChildSession(Session):
    """What the command of one run may do, and what it did to its own run.

    The client ends the run at its exit, maybe long before the command ends: such a status is kept here, apart from the
    record. It is also told the experiment that it chose: a client of MLflow refuses to attach to a run whose experiment
    is not the one of ``mlflow.set_experiment``. The record follows the script, unless the user decided.
    """

    def __init__(self, run_id: str, experiment_id: str, *, experiment_is_fixed: bool, report: Report) -> None:
        self.run_id = run_id
        self.status: RunStatus | None = None
        self.ended_at: int | None = None
        self.created_runs: list[str] = []
        self._experiment_is_fixed = experiment_is_fixed
        self._report = report
        self._experiment_id = experiment_id
        self._experiments = {experiment_id}
        self._models: set[str] = set()
        self._moved = False
        self._waiting = [run_id]
        self._named: dict[str, str] = {}
        self._told: dict[str, str] = {}

    @property
    def final_status(self) -> RunStatus | None:
        """The status in which the client left the run of its own accord, None where it did not end it."""
        return self.status if self.status is not None and self.status.is_over else None

    def check_run(self, run_id: str) -> None:
        """Refuse a change of a run that the command neither is nor made.

        Raises:
            RefusedError: it is another one.
        """
        if run_id != self.run_id and run_id not in self.created_runs:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"The run '{self.run_id}' may change itself and runs that it made, not '{run_id[:80]}'.",
            )

    def check_experiment(self, experiment_id: str) -> None:
        """Refuse a change of an experiment that the command neither made nor has runs in.

        Raises:
            RefusedError: it is another one.
        """
        if experiment_id not in self._experiments:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"The run '{self.run_id}' may change experiments that it uses, not '{experiment_id[:80]}'.",
            )

    def check_model(self, model_id: str) -> None:
        """Refuse a change of a logged model that the command did not make.

        Raises:
            RefusedError: it is another one.
        """
        if model_id not in self._models:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"The run '{self.run_id}' may change models that it made, not '{model_id[:80]}'.",
            )

    def model_created(self, model_id: str) -> None:
        """Learn that the command made a logged model."""
        self._models.add(model_id)

    def experiment_named(self, experiment_id: str, *, created: bool = False) -> None:
        """Learn which experiment the script asked for before it attached to its run.

        The server can't see ``mlflow.set_experiment``, only that somebody asked for an experiment.
        """
        if created:
            self._experiments.add(experiment_id)
        if self._waiting:
            self._named[self._waiting[-1]] = experiment_id

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Link a run that has no parent to the run whose command made it."""
        return tags if PARENT_TAG in tags else {**tags, PARENT_TAG: self.run_id}

    def run_created(self, run: Run) -> None:
        """Learn that the command made a run; one of a project waits for a client to attach, like the command's own."""
        self.created_runs.append(run.run_id)
        self._experiments.add(run.experiment_id)
        if run.tags.get(SOURCE_TYPE_TAG) == "PROJECT":
            # `mlflow.run(…, experiment_name=…)` asked for the experiment of that project, perhaps, not for its own.
            self._moved = self._moved or self._named.get(self.run_id) == run.experiment_id
            self._waiting.append(run.run_id)

    def run_told(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run with the status that its client gave it and the experiment that its client wants it in."""
        if run.run_id == self.run_id and self.status is not None:
            run = msgspec.structs.replace(run, status=self.status, ended_at=self.ended_at)
        told = self._told.get(run.run_id)
        if attaching and run.run_id in self._waiting:
            told = self._named.get(run.run_id, told)
        return run if told is None else msgspec.structs.replace(run, experiment_id=told)

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Learn that a client attached to a run or ended it; the record of the command's own run stays open."""
        if status is RunStatus.RUNNING:
            self._attach(db, run_id)
        elif status is not None and status.is_over and run_id in self._waiting:
            self._waiting.remove(run_id)
        if run_id != self.run_id:
            return False
        if status is not None:
            self.status = status
            self.ended_at = ended_at if status.is_over else None
            # The next part of a command (`python a.py && python b.py`) attaches anew, with an experiment of its own.
            if status.is_over and run_id not in self._waiting:
                self._waiting.insert(0, run_id)
        return True

    def _attach(self, db: Database, run_id: str) -> None:
        if run_id not in self._waiting:
            return
        self._waiting.remove(run_id)
        named = self._named.pop(run_id, None)
        if named is None:
            return
        self._told[run_id] = named
        if run_id == self.run_id:
            self._follow(db, named)
        else:
            move_run(db, run_id, named)

    def _follow(self, db: Database, named: str) -> None:
        """Let the record follow the script's first choice; the user's own stands above it."""
        if self._moved or named == self._experiment_id:
            return
        self._moved = True
        target = experiments.get(db, named)
        if self._experiment_is_fixed:
            self._say(f"The script asks for the experiment '{target.name}'; the run stays in the one that you chose")
            return
        move_run(db, self.run_id, named)
        self._experiments.add(named)
        self._say(f"The run is in the experiment '{target.name}', as its script asks", hint="--experiment decides it.")

    def _say(self, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
