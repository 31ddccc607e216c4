"""Explains why two runs differ. Read `explain` from top to bottom."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from runner.explanation.differences import Difference, differences_between
from runner.explanation.investigation import Investigation
from runner.explanation.mixing import Mixer, Pair, read_pair
from runner.explanation.model import Explanation, RecordedDifference
from runner.explanation.trials import Budget, Trials, differing_results
from runner.model import Report, RunRecord
from runner.reproduction.causes import Cause
from runner.reproduction.planning import require_ended
from runner.reproduction.reproducing import ReproduceRequest, read_original, tolerances
from runner.reproduction.tolerance import Tolerances
from runner.settings import Home

DEFAULT_BUDGET = 1800.0
"""Seconds that a search may take."""


class ExplainRequest(Struct, frozen=True, kw_only=True):
    """A request to explain why the results of run ``other`` differ from those of run ``original``.

    ``inputs`` are paths of files with recorded content by the names of inputs, ``parameters`` the values of secret
    parameters, ``budget`` the seconds that the search may take.
    """

    original: str
    other: str
    inputs: Mapping[str, str] = {}
    parameters: Mapping[str, str] = {}
    rtol: float | None = None
    atol: float | None = None
    budget: float = DEFAULT_BUDGET


def explain(request: ExplainRequest, home: Home, report: Report) -> Explanation:
    """Compare what is recorded of two runs, and find the cause of their different results by running what is between.

    Each run that is made is recorded, and nested in the run ``other``.

    Raises:
        ProjError: a run does not exist, or its record is not sufficient to run it again.
    """
    budget = Budget(request.budget)
    original, other = (read_original(one, home) for one in (request.original, request.other))
    for one in (original, other):
        require_ended(one)
    pair = read_pair(original, other, request.inputs, home)
    differences = differences_between(pair.original, pair.other, pair.files, home)
    mixer = Mixer(pair, request.parameters, home, report)
    trials = Trials(mixer, other.run_id or "", home, budget, report)
    rules = _rules(request, mixer, original)
    results = differing_results(original, other, rules, home)
    if not results:
        return _explanation(pair, differences, (), is_complete=True)
    missing = mixer.missing()
    if missing:
        suspects = tuple(_suspect(one, "nothing could be run") for one in differences)
        reason = f"inputs are not on this machine with their recorded content: {', '.join(missing)}"
        return _explanation(pair, differences, results, causes=suspects, undecided=reason)
    found = Investigation(pair, differences, results, rules, trials).run()
    return _explanation(
        pair,
        differences,
        results,
        causes=found.causes,
        is_complete=found.is_complete,
        undecided=found.undecided,
        runs=tuple(trials.started),
        seconds=round(budget.used, 3),
    )


def _rules(request: ExplainRequest, mixer: Mixer, original: RunRecord) -> Tolerances:
    run_id = original.run_id or ""
    asked = ReproduceRequest(run=run_id, rtol=request.rtol, atol=request.atol)
    return tolerances(asked, mixer.plan(frozenset(), run_id), original)


def _suspect(difference: Difference, detail: str) -> Cause:
    return Cause(
        kind=difference.kind,
        name=difference.name,
        proven=False,
        original=difference.original,
        other=difference.other,
        detail=difference.fixed or detail,
    )


def _explanation(pair: Pair, differences: Iterable[Difference], results: Iterable[str], **found: object) -> Explanation:
    listed = tuple(
        RecordedDifference(kind=one.kind, name=one.name, original=one.original, other=one.other) for one in differences
    )
    return Explanation(
        original=pair.original.record.run_id or "",
        other=pair.other.record.run_id or "",
        results=tuple(sorted(results)),
        differences=listed,
        **found,  # type: ignore[arg-type]
    )
