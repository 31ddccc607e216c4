"""Tells which metrics of runs are the primary ones, and which of their values is the best."""

import math
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from runner.base.tags import GOAL_TAG, METRIC_TAG
from runner.model import RunRecord

_SMALL = r"(?:^|[^a-z])(?:[a-z]*loss|err(?:or)?|r?ms[le]?e|ma[pe]?e|nll|perplexity|wer|cer)(?:$|[^a-z])"
_LARGE = (
    r"(?:^|[^a-z])(?:acc(?:uracy)?|[a-z]*auc|auroc|f1|f1[^a-z]?score|precision|recall|r2|bleu|rouge|map|ndcg|score)"
)
_GOALS = ((re.compile(_SMALL), "min"), (re.compile(rf"{_LARGE}(?:$|[^a-z])"), "max"))
"""Goals of metrics with the usual names, for manifests that declare none."""


class PrimaryMetric(Struct, frozen=True, kw_only=True):
    """A metric that is shown first; ``goal`` is max or min, None if it is not known which value is the best."""

    name: str
    goal: str | None = None


def declared_metrics(records: Sequence[RunRecord]) -> tuple[PrimaryMetric, ...]:
    """Return the primary metrics that the manifests of these runs declare; the first declaration of a name counts."""
    found: dict[str, PrimaryMetric] = {}
    for record in records:
        name = record.tags.get(METRIC_TAG)
        if name:
            found.setdefault(name, PrimaryMetric(name=name, goal=_goal(record.tags) or usual_goal(name)))
    return tuple(found.values())


def usual_goal(name: str) -> str | None:
    """Return which value of a metric is the best, from its name; None if the name does not tell it."""
    return next((goal for pattern, goal in _GOALS if pattern.search(name.lower())), None)


def best_runs(records: Sequence[RunRecord], metric: PrimaryMetric) -> frozenset[str]:
    """Return the ids of the runs with the best value; none if the goal is not known or there are no two values."""
    values = {record.run_id: record.metrics[metric.name] for record in records if metric.name in record.metrics}
    numbers = {run_id: value for run_id, value in values.items() if run_id and not math.isnan(value)}
    if metric.goal is None or len(set(numbers.values())) < 2:  # noqa: PLR2004
        return frozenset()
    best = max(numbers.values()) if metric.goal == "max" else min(numbers.values())
    return frozenset(run_id for run_id, value in numbers.items() if value == best)


def _goal(tags: Mapping[str, str]) -> str | None:
    goal = tags.get(GOAL_TAG)
    return goal if goal in ("max", "min") else None
