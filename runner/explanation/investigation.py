"""Investigates a difference: controls, the search among the recorded differences, and repetitions of what it found."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations

from msgspec import Struct

from runner.explanation.differences import Difference
from runner.explanation.mixing import Chosen, Pair
from runner.explanation.refining import changed_lines, first_commit
from runner.explanation.search import Result, Search
from runner.explanation.trials import FAILURE, OutOfBudgetError, Trial, Trials, differing_results
from runner.model import RunRecord, RunStatus
from runner.reproduction.causes import Cause, CauseKind
from runner.reproduction.tolerance import Tolerances

CONTROLS = 3
"""Runs of one of the two sides, if the first one does not have the results of that side."""
CONFIRMATIONS = 2
"""Further runs of what decides, which must have the same results."""
OF_ENDINGS = 4
"""The same, if the runs ended in different ways: that often happens by chance, and has two values only."""
_ENDINGS = frozenset({"status", "exit code", FAILURE})
_ORDER = (
    CauseKind.CODE,
    CauseKind.PACKAGE,
    CauseKind.PARAMETER,
    CauseKind.INPUT,
    CauseKind.INTERPRETER,
    CauseKind.VARIABLE,
    CauseKind.THREADS,
)


class Findings(Struct, frozen=True, kw_only=True):
    """What an investigation found."""

    causes: tuple[Cause, ...]
    is_complete: bool
    undecided: str | None = None


class _ChangedError(Exception):
    """A repetition had other results, so that they are noise and the search starts again."""


class Investigation:
    """Finds the causes of the differences between the results of two runs."""

    def __init__(
        self, pair: Pair, differences: Sequence[Difference], results: frozenset[str], rules: Tolerances, trials: Trials
    ) -> None:
        self._ends = (pair.original.record, pair.other.record)
        self._rules = rules
        self._trials = trials
        self._fixed = [one for one in differences if one.fixed is not None]
        self._groups = [[one for one in differences if one.kind is kind and one.fixed is None] for kind in _ORDER]
        self._everything: Chosen = frozenset(one for group in self._groups for one in group)
        self._results = results
        self._noise: dict[str, tuple[str, str]] = {}
        """The results that differ between runs of the same configuration, with the ids of two such runs."""
        self._drifted: frozenset[str] = frozenset()
        """The results of the two runs that do not come out again."""
        self._suspects: Chosen = self._everything
        self._details: dict[Difference, str] = {}
        """Which lines and which commit matter, for files."""
        self._confirmed = 0
        self._found: Chosen | None = None

    def run(self) -> Findings:
        """Return what can be found inside the budget."""
        undecided = None
        try:
            self._control()
            while self._target:
                self._confirmed, self._found = 0, None
                try:
                    self._confirm(self._search())
                except _ChangedError:
                    continue
                break
        except OutOfBudgetError:
            undecided = "the budget ended before everything was decided; --budget gives more time"
        with suppress(OutOfBudgetError):
            self._refine()
        causes = tuple(self._causes())
        is_proven = self._found is not None and all(one.proven for one in causes if one.kind is not CauseKind.NOISE)
        explained = self._noise.keys() | (self._target if is_proven else frozenset())
        open_results = self._results - explained
        if open_results and undecided is None:
            error = next((trial.error for trial in self._controls() if trial.error), None)
            names = ", ".join(sorted(open_results))
            undecided = f"no cause could be proven for: {names}" + (
                f" (a run could not be made: {error})" if error else ""
            )
        return Findings(causes=causes, is_complete=not open_results, undecided=undecided)

    @property
    def _target(self) -> frozenset[str]:
        """The results that the recorded differences explain."""
        return self._results - self._noise.keys() - self._drifted

    def _control(self) -> None:
        """Run both sides as they were: results that do not come out again can't be explained by what is recorded."""
        drifted: set[str] = set()
        for chosen, end in ((frozenset[Difference](), self._ends[0]), (self._everything, self._ends[1])):
            trial = self._trials.first(chosen)
            while self._differing(trial, end) and len(self._trials.all(chosen)) < CONTROLS:
                trial = self._trials.again(chosen)
            self._note_noise(chosen)
            drifted |= self._differing(trial, end) - self._noise.keys()
        self._drifted = frozenset(drifted)

    def _note_noise(self, chosen: Chosen) -> None:
        """Take note of the results in which runs of the same configuration differ."""
        records = [trial.record for trial in self._trials.all(chosen) if trial.record is not None]
        for first, second in combinations(records, 2):
            for name in self._between(first, second):
                self._noise.setdefault(name, (first.run_id or "", second.run_id or ""))

    def _between(self, first: RunRecord, second: RunRecord) -> frozenset[str]:
        return differing_results(first, second, self._rules, self._trials.home)

    def _differing(self, trial: Trial, end: RunRecord) -> frozenset[str]:
        return self._results if trial.record is None else self._between(end, trial.record)

    def _search(self) -> Chosen:
        search = Search([group for group in self._groups if group], self._test)
        try:
            return search.minimize()
        finally:
            self._suspects = search.current

    def _test(self, chosen: Chosen) -> Result:
        trial = self._trials.first(chosen)
        if trial.record is None or trial.record.status not in {one.status for one in self._ends}:
            return Result.UNRESOLVED
        original, other = (self._differing(trial, end) & self._target for end in self._ends)
        if not other:
            return Result.OTHER
        if not original:
            return Result.ORIGINAL
        return Result.NEITHER if trial.record.status == RunStatus.FINISHED.value else Result.UNRESOLVED

    def _confirm(self, found: Chosen) -> None:
        """Repeat the runs that prove the causes.

        Raises:
            _ChangedError: one of them had other results.
        """
        self._found = found
        for _ in range(OF_ENDINGS if self._target & _ENDINGS else CONFIRMATIONS):
            for chosen in (found, *(found - {one} for one in found)):
                self._trials.again(chosen)
                before = len(self._noise.keys() & self._results)
                self._note_noise(chosen)
                if len(self._noise.keys() & self._results) > before:
                    raise _ChangedError
            self._confirmed += 1

    def _refine(self) -> None:
        """Find the lines and the commit of the changed files that matter.

        Raises:
            OutOfBudgetError: the time is used up.
        """
        found, home = self._found, self._trials.home
        if found is None or not self._confirmed:
            return
        files = [one for one in found if one.changes]
        commit = first_commit(self._ends, found, self._test, home) if files else None
        for one in files:
            lines = changed_lines(one, found - {one}, self._test, home)
            self._details[one] = "; ".join(text for text in (lines, commit) if text)

    def _causes(self) -> Iterator[Cause]:
        for one in sorted(self._found or self._suspects, key=lambda one: (_ORDER.index(one.kind), one.name)):
            if self._target:
                yield self._cause(one)
        for name in sorted(self._noise.keys() & self._results):
            detail = "two runs of the same configuration differ in it"
            yield Cause(kind=CauseKind.NOISE, name=name, proven=True, evidence=self._noise[name], detail=detail)
        unexplained = self._results & self._drifted - self._noise.keys()
        if not unexplained:
            return
        for one in self._fixed:
            yield Cause(
                kind=one.kind, name=one.name, proven=False, original=one.original, other=one.other, detail=one.fixed
            )
        evidence = tuple(trial.run_id for trial in self._controls() if trial.run_id)
        for name in sorted(unexplained):
            detail = "a run did not have this result again, although everything recorded that can be set was the same"
            yield Cause(kind=CauseKind.NOISE, name=name, proven=False, evidence=evidence, detail=detail)

    def _controls(self) -> tuple[Trial, ...]:
        sides = dict.fromkeys((frozenset[Difference](), self._everything))
        return tuple(trial for chosen in sides for trial in self._trials.all(chosen))

    def _cause(self, one: Difference) -> Cause:
        """Return a difference that is needed for the other results, as proven as the runs without it allow."""
        detail = "not tested to the end"
        evidence: tuple[str, ...] = ()
        is_proven = False
        if self._found is not None:
            without = self._trials.all(self._found - {one})
            evidence = tuple(
                trial.run_id for trial in (*self._trials.all(self._found)[:1], *without[:1]) if trial.run_id
            )
            result = self._test(self._found - {one}) if without else Result.UNRESOLVED
            is_proven = result in (Result.ORIGINAL, Result.NEITHER) and self._confirmed > 0
            times = len(without)
            detail = f"without it the results are {_WORDS[result]}, in {times} of {times} runs"
            if self._details.get(one):
                detail = f"{detail}; {self._details[one]}"
            if result is Result.UNRESOLVED:
                detail = "without it the run fails, so its part in the results can't be decided"
        return Cause(
            kind=one.kind,
            name=one.name,
            proven=is_proven,
            evidence=evidence,
            original=one.original,
            other=one.other,
            detail=detail,
        )


_WORDS = {
    Result.ORIGINAL: "those of the original run",
    Result.NEITHER: "those of neither run",
    Result.OTHER: "those of the other run",
    Result.UNRESOLVED: "not known",
}
