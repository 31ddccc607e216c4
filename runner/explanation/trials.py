"""Runs trials: the original run with some differences of the other one, inside a budget of time."""

import time

from msgspec import Struct

from runner.errors import ExecutionError, ProjError
from runner.explanation.mixing import Chosen, Mixer
from runner.model import Event, EventKind, Report, RunRecord, RunStatus
from runner.process import Echo
from runner.record import RunOutcome
from runner.reproduction.reproducing import compare
from runner.reproduction.tolerance import Tolerances
from runner.reproduction.verdict import Verdict
from runner.settings import Home
from runner.workflow import run_plan

FAILURE = "failure"
"""The name of the error of a failed run, among its results."""
_SHOWN = 4


class OutOfBudgetError(Exception):
    """The budget does not suffice for another run."""


class Budget:
    """A limit of time in seconds; a run is started only if it can be expected to end inside it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._longest = 0.0

    @property
    def used(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self._started

    def require(self) -> None:
        """Raise an error if no other run fits.

        Raises:
            OutOfBudgetError: the time is used up.
        """
        if self.used + self._longest > self._seconds:
            raise OutOfBudgetError

    def add(self, seconds: float) -> None:
        """Take note of the duration of a run."""
        self._longest = max(self._longest, seconds)


class Trial(Struct, frozen=True, kw_only=True):
    """A run that was made; ``record`` is None if it could not be planned or prepared, and ``error`` says why."""

    record: RunRecord | None
    error: str | None = None

    @property
    def run_id(self) -> str:
        """The id of the run, empty without one."""
        return (self.record.run_id if self.record else None) or ""


class Trials:
    """Runs differences and keeps all results."""

    def __init__(self, mixer: Mixer, parent: str, home: Home, budget: Budget, report: Report) -> None:
        self.home = home
        self.budget = budget
        self._mixer = mixer
        self._parent = parent
        self._report = report
        self._done: dict[Chosen, list[Trial]] = {}
        self.started: list[str] = []
        """The ids of the runs that were made."""

    def first(self, chosen: Chosen) -> Trial:
        """Return the first run with these differences.

        Raises:
            OutOfBudgetError: the time is used up.
        """
        return self._done[chosen][0] if chosen in self._done else self.again(chosen)

    def all(self, chosen: Chosen) -> tuple[Trial, ...]:
        """Return all runs with these differences."""
        return tuple(self._done.get(chosen, ()))

    def again(self, chosen: Chosen) -> Trial:
        """Run these differences once more.

        Raises:
            OutOfBudgetError: the time is used up.
            ExecutionError: the run was stopped by a signal.
        """
        self.budget.require()
        self._report(Event(kind=EventKind.STEP, message=f"Trying the original run with {describe(chosen)}"))
        started = time.monotonic()
        trial = self._run(chosen)
        self.budget.add(time.monotonic() - started)
        self._done.setdefault(chosen, []).append(trial)
        return trial

    def _run(self, chosen: Chosen) -> Trial:
        try:
            plan = self._mixer.plan(chosen, self._parent)
        except ProjError as error:
            return Trial(record=None, error=error.message)
        outcome = run_plan(plan, lambda _event: None, Echo.NONE)
        self.started.append(outcome.record.run_id or "")
        if outcome.record.status == RunStatus.KILLED.value and "stopped by SIG" in (outcome.record.reason or ""):
            raise ExecutionError("A run was stopped, so the search for the cause ends", context=outcome.record.reason)
        if outcome.error is not None:
            return Trial(record=None, error=outcome.error.message)
        return Trial(record=outcome.record)


def describe(chosen: Chosen) -> str:
    """Return differences in a few words."""
    names = sorted(f"{one.kind.value} {one.name}" for one in chosen)
    if not names:
        return "nothing changed"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} of the other one"


def differing_results(first: RunRecord, second: RunRecord, rules: Tolerances, home: Home) -> frozenset[str]:
    """Return the names of the results in which two runs differ: metrics, outputs, status, exit code, failure."""
    found = compare(first, RunOutcome(record=second, exit_code=0), rules, home)
    parts = {
        **{f"metric {one.name}": one for one in found.metrics},
        **{f"output {one.name}": one for one in found.outputs},
        **{one.name: one for one in (found.status, found.exit_code) if one is not None},
    }
    names = {
        name
        for name, one in parts.items()
        if not (one.verdict.is_reproduced or one.verdict is Verdict.NOTHING_TO_COMPARE)
    }
    failures = [(one.failed_at or "").partition(": ")[2] for one in (first, second)]
    return frozenset({*names, FAILURE} if failures[0] != failures[1] else names)
