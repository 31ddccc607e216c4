"""On whose behalf a server answers: what a token may change, and what the child of a run is told about its own run."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

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
"""How the tags begin in which proj says which code made a run."""

DELETED = "deleted"
RESTORED = "restored"
RENAMED = "renamed"


class Session:
    """What whoever holds a server's token may do, and how it is told of what is there.

    Here: everything that does not falsify what proj recorded.
    """

    def check_run(self, db: Database, run_id: str) -> None:
        """Learn that a client is about to write to a run.

        Raises:
            RefusedError: it may not.
        """

    def check_removal(self, db: Database, run_id: str) -> None:
        """Learn that a client is about to put a run aside or to bring it back.

        Raises:
            RefusedError: the run goes on.
        """
        if find_permissions(db, run_id).is_live:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, f"The run '{run_id}' goes on; it can't be deleted now.")

    def check_experiment(self, db: Database, experiment_id: str, deed: str = "") -> None:
        """Learn that a client is about to change an experiment; ``deed`` says how, where it is no small thing.

        Raises:
            RefusedError: a run in it goes on and it would be deleted.
        """
        if deed == DELETED and has_live_runs(db, experiment_id):
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"A run in the experiment '{experiment_id}' goes on; it can't be deleted now.",
            )

    def check_model(self, model_id: str, deed: str = "") -> None:
        """Learn that a client is about to change a logged model; ``deed`` says how, where it is no small thing."""

    def removed(self, what: str) -> None:
        """Learn that a client removed something from the registry."""

    def free_tags(self, db: Database, run_id: str, keys: Iterable[str]) -> frozenset[str]:
        """Return those tags of a run that the client may set; the others stay as proj recorded them.

        Raises:
            RefusedError: one may not be set, and the client should know.
        """
        named = frozenset(keys)
        reserved = {key for key in named if key.startswith(RESERVED)}
        if reserved and find_permissions(db, run_id).is_recorded:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                f"proj recorded the tag '{min(reserved)}' of this run; it can't be changed.",
            )
        return named

    def uri_told(self, uri: str) -> str:
        """Return where artifacts are as the client is told it."""
        return uri

    def uri_of_source(self, uri: str) -> str:
        """Return where a model version's files are as it is stored, of what the client said.

        Raises:
            RefusedError: the client may not name such a place.
        """
        check_source(uri)
        return uri

    def location_of(self, uri: str) -> str | None:
        """Return where the artifacts of a new experiment are to be, of what the client said; None for the usual place.

        Raises:
            RefusedError: the client may not name such a place.
        """
        # Behind the proxy is one place only, the usual one.
        if not uri or uri.startswith("mlflow-artifacts:"):
            return None
        check_location(uri)
        return uri

    def experiment_named(self, experiment_id: str, *, created: bool = False) -> None:
        """Learn that a client asked for an experiment, or made it."""

    def tags_of_new_run(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Return the tags that a new run gets."""
        return tags

    def run_created(self, run: Run) -> None:
        """Learn that a client made a run."""

    def model_created(self, model_id: str) -> None:
        """Learn that a client made a logged model."""

    def run_told(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run as the client is told of it; ``attaching`` when it asked for just this run."""
        del attaching
        return run

    def run_updated(self, db: Database, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Learn that a client set the status of a run; True when the record keeps that out."""
        del ended_at
        return status is not None and find_permissions(db, run_id).is_recorded


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
        self._told: dict[str, str] = {}
        self._reopened: dict[str, tuple[RunStatus, int | None]] = {}

    @property
    def final_status(self) -> RunStatus | None:
        """The status in which the client left the run of its own accord, None where it did not end it."""
        return self.status if self.status is not None and self.status.is_over else None

    @property
    def written_runs(self) -> tuple[str, ...]:
        """The ids of the other runs that the command made or wrote to."""
        return tuple(sorted(self._writable - {self.run_id}))

    def check_run(self, db: Database, run_id: str) -> None:
        """Let the command write to itself, to runs that it made, and to others that no process answers for.

        Scripts that evaluate what an earlier run trained do so; both runs say it.

        Raises:
            RefusedError: the run goes on elsewhere.
        """
        if run_id in self._writable:
            return
        standing = find_permissions(db, run_id)
        if standing.is_live:
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED, f"The run '{run_id}' goes on elsewhere; '{self.run_id}' can't write to it."
            )
        note_writer(db, run_id, self.run_id)
        self._writable.add(run_id)
        self._recorded |= {run_id} if standing.is_recorded else set()
        self._say(f"The command wrote to another run, {run_id}")

    def check_removal(self, db: Database, run_id: str) -> None:
        """Let the command put runs aside, which can be brought back."""
        super().check_removal(db, run_id)
        if run_id not in self._made:
            self._say(f"The command deleted or restored another run, {run_id}")

    def check_experiment(self, db: Database, experiment_id: str, deed: str = "") -> None:
        """Let the command change experiments; what it does to others than its own is said."""
        super().check_experiment(db, experiment_id, deed)
        if deed and experiment_id not in self._experiments:
            name = experiments.get(db, experiment_id).name
            self._say(f"The command {deed} the experiment '{name}', which it did not make")

    def check_model(self, model_id: str, deed: str = "") -> None:
        """Let the command change logged models, for registering one tags it; what it removes of others is said."""
        if deed and model_id not in self._models:
            self._say(f"The command {deed} the logged model {model_id}, which it did not make")

    def removed(self, what: str) -> None:
        """Say that the command removed something from the registry."""
        self._say(f"The command removed {what}")

    def free_tags(self, db: Database, run_id: str, keys: Iterable[str]) -> frozenset[str]:
        """Return the tags that the command may set; it goes on without the others, as with MLflow."""
        del db
        named = frozenset(keys)
        if run_id not in self._recorded:
            return named
        reserved = {key for key in named if key.startswith(RESERVED)}
        for key in sorted(reserved):
            self._say(f"The command set the tag '{key}'; what proj recorded there stays")
        return named - reserved

    def uri_told(self, uri: str) -> str:
        """Return a folder of this disk as a plain path: clients before 1.0 take a URL for the name of a folder.

        A path with characters that mean something in a URL stays one, as later clients take paths apart like URLs.
        """
        path = urlsplit(uri).path
        is_plain = uri == f"file://{path}" and quote(path, safe="/") == path and "%" not in path
        return path if is_plain else uri

    def uri_of_source(self, uri: str) -> str:
        """Return where files of a model version are, a folder as it is stored; the command reads this disk anyway."""
        check_source(uri)
        return f"file://{quote(uri)}" if uri.startswith("/") else uri

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
        self._made.add(run.run_id)
        self._writable.add(run.run_id)
        self._experiments.add(run.experiment_id)
        if run.tags.get(SOURCE_TYPE_TAG) == "PROJECT":
            # `mlflow.run(…, experiment_name=…)` asked for the experiment of that project, perhaps, not for its own.
            self._moved = self._moved or self._named.get(self.run_id) == run.experiment_id
            self._waiting.append(run.run_id)

    def run_told(self, run: Run, *, attaching: bool = False) -> Run:
        """Return a run with the status that its client gave it and the experiment that its client wants it in."""
        if run.run_id == self.run_id and self.status is not None:
            run = msgspec.structs.replace(run, status=self.status, ended_at=self.ended_at)
        elif run.run_id in self._reopened:
            status, ended_at = self._reopened[run.run_id]
            run = msgspec.structs.replace(run, status=status, ended_at=ended_at)
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
            return run_id not in self._made and self._reopen(run_id, status, ended_at)
        if status is not None:
            self.status = status
            self.ended_at = ended_at if status.is_over else None
            # The next part of a command (`python a.py && python b.py`) attaches anew, with an experiment of its own.
            if status.is_over and run_id not in self._waiting:
                self._waiting.insert(0, run_id)
        return True

    def _reopen(self, run_id: str, status: RunStatus | None, ended_at: int | None) -> bool:
        """Learn that a client attached to a run of before, or ended it; True when the record keeps that out.

        How a run ended that proj recorded stays; another one never runs again, lest it does so for ever when the
        command is killed.
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
            message = (
                f"The script asks for the experiment '{target.name}'; the run stays in the one that it was opened in"
            )
            self._say(message, hint="--experiment decides it.")
            return
        move_run(db, self.run_id, named)
        self._experiments.add(named)
        self._say(f"The run is in the experiment '{target.name}', as its script asks", hint="--experiment decides it.")

    def _say(self, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
