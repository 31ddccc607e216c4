"""Compares the metrics of two runs: the last value and the whole history of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan

from runner.base.plurals import counted
from runner.reproduction.tolerance import Allowance, Tolerances, compare_numbers
from runner.reproduction.verdict import Comparison, Verdict, shown, worst
from runner.store.entities import Metric

History = Callable[[str], Iterable[Metric]]
"""Returns the points of a metric, given its name."""

Steps = dict[int, list[float]]


class MetricsOfRun:
    """The metrics of a run: the last values, and a function that reads the history of one."""

    def __init__(self, last: Mapping[str, float], history: History) -> None:
        self.last = last
        self.history = history


def compare_metrics(original: MetricsOfRun, reproduced: MetricsOfRun, rules: Tolerances) -> tuple[Comparison, ...]:
    """Compare the metrics of two runs, by name."""
    names = sorted({*original.last, *reproduced.last})
    return tuple(_compare(name, original, reproduced, rules.for_metric(name)) for name in names)


def _compare(name: str, original: MetricsOfRun, reproduced: MetricsOfRun, rules: Sequence[Allowance]) -> Comparison:
    first, second = original.last.get(name), reproduced.last.get(name)
    if first is None or second is None:
        side = "reproduction" if second is None else "original run"
        return Comparison(
            name=name,
            verdict=Verdict.INCOMPLETE,
            original=shown(first),
            reproduced=shown(second),
            detail=f"the {side} does not have it",
        )
    verdict, difference, rule = compare_numbers(first, second, rules)
    whole, detail, history_rule = compare_histories(
        by_step(original.history(name)), by_step(reproduced.history(name)), rules
    )
    if verdict is Verdict.DIFFERENT and whole is not Verdict.DIFFERENT:
        detail = "the values of the last step come in another order"
    return Comparison(
        name=name,
        verdict=worst((verdict, whole)),
        original=shown(first),
        reproduced=shown(second),
        difference=difference,
        rule=rule or history_rule,
        detail=detail,
    )


def by_step(points: Iterable[Metric]) -> Steps:
    """Return the distinct values of each step, sorted.

    The store keeps equal values of one millisecond once, so neither repetitions nor the order in a step are compared.
    """
    found: dict[int, dict[str, float]] = {}
    for point in points:
        found.setdefault(point.step, {})[repr(point.value)] = point.value
    return {step: sorted(values.values(), key=lambda value: (isnan(value), value)) for step, values in found.items()}


def compare_histories(
    original: Steps, reproduced: Steps, rules: Sequence[Allowance]
) -> tuple[Verdict, str | None, str | None]:
    """Return verdict, detail and rule of two histories; times are not compared."""
    verdicts: set[Verdict] = set()
    rule = None
    common = sorted(original.keys() & reproduced.keys())
    bad = []
    for step in common:
        verdict, found_rule = _compare_step(original[step], reproduced[step], rules)
        verdicts.add(verdict)
        rule = rule or found_rule
        if verdict is Verdict.DIFFERENT:
            bad.append(step)
    alone = sorted(original.keys() ^ reproduced.keys())
    if alone:
        verdicts.add(Verdict.INCOMPLETE)
    detail = None
    if bad:
        detail = f"differs in {len(bad)} of {counted(len(common), 'step')}, the first is step {bad[0]}"
    elif alone:
        detail = f"{counted(len(alone), 'step')} in one history only, the first is step {alone[0]}"
    return worst(verdicts), detail, rule


def _compare_step(
    original: Sequence[float], reproduced: Sequence[float], rules: Sequence[Allowance]
) -> tuple[Verdict, str | None]:
    if len(original) != len(reproduced):
        return Verdict.DIFFERENT, None
    found = [compare_numbers(first, second, rules) for first, second in zip(original, reproduced, strict=True)]
    return worst(verdict for verdict, _, _ in found), next((rule for _, _, rule in found if rule), None)
