"""The runs of a command as the command sees them: a state for each run, and a table of the transitions."""

from collections.abc import Iterator, Mapping
from enum import Enum

from msgspec import Struct, structs

from runner.model import RunStatus
from runner.store.entities import Run


class State(Enum):
    """The state of a run in the view of a command."""

    WAITING = "waiting"
    """The run of the command; no client is attached."""
    ATTACHED = "attached"
    """The run of the command; a client is attached."""
    PROJECT = "project"
    """A run that the command created for a project of MLflow, whose client is not attached yet."""
    CREATED = "created"
    """Another run that the command created."""
    RECORDED = "recorded"
    """An earlier run whose command proj ran."""
    EARLIER = "earlier"
    """An earlier run of another origin."""


class Signal(Enum):
    """The kinds of a status that a client sets."""

    SCHEDULED = "scheduled"
    STARTED = "started"
    """A client attaches to the run, or resumes it."""
    ENDED = "ended"

    @classmethod
    def of(cls, status: RunStatus) -> "Signal":
        """Return the kind of a status."""
        if status.is_over:
            return cls.ENDED
        return cls.STARTED if status is RunStatus.RUNNING else cls.SCHEDULED


class Transition(Struct, frozen=True):
    """The effect of a signal in a state."""

    state: State
    stores: bool
    """Whether the status is stored; otherwise only the command sees it."""
    selects: bool = False
    """Whether the run moves to the experiment that was requested for it."""


TRANSITIONS: Mapping[tuple[State, Signal], Transition] = {
    # A client ends the run at its exit, which can be long before the command ends: proj stores the status.
    (State.WAITING, Signal.SCHEDULED): Transition(State.WAITING, stores=False),
    (State.WAITING, Signal.STARTED): Transition(State.ATTACHED, stores=False, selects=True),
    (State.WAITING, Signal.ENDED): Transition(State.WAITING, stores=False),
    (State.ATTACHED, Signal.SCHEDULED): Transition(State.ATTACHED, stores=False),
    (State.ATTACHED, Signal.STARTED): Transition(State.ATTACHED, stores=False),
    # The next script of a command (`python a.py && python b.py`) attaches again, with its own experiment.
    (State.ATTACHED, Signal.ENDED): Transition(State.WAITING, stores=False),
    (State.PROJECT, Signal.SCHEDULED): Transition(State.PROJECT, stores=True),
    (State.PROJECT, Signal.STARTED): Transition(State.CREATED, stores=True, selects=True),
    (State.PROJECT, Signal.ENDED): Transition(State.CREATED, stores=True),
    (State.CREATED, Signal.SCHEDULED): Transition(State.CREATED, stores=True),
    (State.CREATED, Signal.STARTED): Transition(State.CREATED, stores=True),
    (State.CREATED, Signal.ENDED): Transition(State.CREATED, stores=True),
    (State.RECORDED, Signal.SCHEDULED): Transition(State.RECORDED, stores=False),
    (State.RECORDED, Signal.STARTED): Transition(State.RECORDED, stores=False),
    (State.RECORDED, Signal.ENDED): Transition(State.RECORDED, stores=False),
    # A run without a process would stay running when the command is killed.
    (State.EARLIER, Signal.SCHEDULED): Transition(State.EARLIER, stores=False),
    (State.EARLIER, Signal.STARTED): Transition(State.EARLIER, stores=False),
    (State.EARLIER, Signal.ENDED): Transition(State.EARLIER, stores=True),
}


class ChildRun(Struct, kw_only=True):
    """One run as the command sees it; ``status`` is the last one that a client set."""

    run_id: str
    state: State
    status: RunStatus | None = None
    ended_at: int | None = None
    requested_experiment: str | None = None
    """The experiment that the next client to attach requested."""
    shown_experiment: str | None = None
    """The experiment that the attached client requested."""

    @property
    def is_waiting(self) -> bool:
        """Whether a client is expected to attach."""
        return self.state in (State.WAITING, State.PROJECT)

    @property
    def is_recorded(self) -> bool:
        """Whether proj ran the command of the run."""
        return self.state in (State.WAITING, State.ATTACHED, State.RECORDED)

    @property
    def is_created(self) -> bool:
        """Whether the command created the run."""
        return self.state in (State.PROJECT, State.CREATED)

    def apply(self, status: RunStatus, ended_at: int | None) -> tuple[Transition, str | None]:
        """Apply a status that a client set; return the transition, and the experiment that the run moves to, if any."""
        transition = TRANSITIONS[self.state, Signal.of(status)]
        self.state = transition.state
        self.status, self.ended_at = status, ended_at if status.is_over else None
        if not transition.selects:
            return transition, None
        selected, self.requested_experiment = self.requested_experiment, None
        self.shown_experiment = selected or self.shown_experiment
        return transition, selected

    def view(self, run: Run, *, attaching: bool) -> Run:
        """Return the stored run with the status that its client set and the experiment that its client requested."""
        if self.status is not None and not self.is_created:
            run = structs.replace(run, status=self.status, ended_at=self.ended_at)
        requested = self.requested_experiment if attaching and self.is_waiting else None
        shown = requested or self.shown_experiment
        return run if shown is None else structs.replace(run, experiment_id=shown)


class ChildRuns:
    """The runs that the command may write to: its own, those that it created, and earlier runs that it wrote to."""

    def __init__(self, run_id: str) -> None:
        self.own = ChildRun(run_id=run_id, state=State.WAITING)
        self._runs = {run_id: self.own}

    def __iter__(self) -> Iterator[ChildRun]:
        return iter(self._runs.values())

    def find(self, run_id: str) -> ChildRun | None:
        """Return a run, or None for a run that the command did not write to."""
        return self._runs.get(run_id)

    def add(self, run_id: str, state: State) -> None:
        """Add a run that the command created or writes to."""
        self._runs[run_id] = ChildRun(run_id=run_id, state=state)

    def request_experiment(self, experiment_id: str) -> None:
        """Note a requested experiment for the run whose client is expected next: the newest one that waits."""
        expected = next((run for run in reversed(self._runs.values()) if run.is_waiting), None)
        if expected is not None:
            expected.requested_experiment = experiment_id
