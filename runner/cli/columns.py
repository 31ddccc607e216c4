"""Defines the columns of `proj list`: fixed ones, and any parameter, metric or tag by name."""

from collections.abc import Callable, Mapping

from runner.base.tags import REPRODUCTIONS_TAG, VERDICT_TAG
from runner.cli.output import duration, local_time, short_code
from runner.errors import UsageError
from runner.model import RunRecord

_SHOWN_METRICS = 3
"""Metrics of a run that the shared column shows; `proj show` prints all."""

DEFAULT = ("run", "name", "experiment", "entry point", "status", "started", "took", "code", "verdict", "metrics")
DROP_ORDER = ("experiment", "entry point", "started", "took", "name", "code")
"""Default columns that are left out if the terminal is too narrow, in this order."""

Column = Callable[[RunRecord], str]


def find_columns(text: str | None) -> Mapping[str, Column]:
    """Return the columns that a comma-separated text names; without a text, the default columns.

    Raises:
        UsageError: a column does not exist.
    """
    names = DEFAULT if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
    return {name: _column(name) for name in names}


def _column(name: str) -> Column:
    if name in _FIXED:
        return _FIXED[name]
    kind, dot, key = name.partition(".")
    if dot and key and kind in _KEYED:
        values = _KEYED[kind]
        return lambda record: values(record).get(key, "")
    raise UsageError(
        f"There is no column '{name}'",
        hint=f"Columns are {', '.join(_FIXED)}, metrics.NAME, params.NAME and tags.NAME.",
    )


def _metrics(record: RunRecord) -> Mapping[str, str]:
    return {name: f"{value:.10g}" for name, value in record.metrics.items()}


def _params(record: RunRecord) -> Mapping[str, str]:
    return {parameter.name: parameter.value for parameter in record.parameters}


_KEYED: Mapping[str, Callable[[RunRecord], Mapping[str, str]]] = {
    "metrics": _metrics,
    "params": _params,
    "tags": lambda record: record.tags,
}


def _verdict(record: RunRecord) -> str:
    """Return the verdict of a reproduction, or of the latest reproduction of a run."""
    of_others = record.tags.get(REPRODUCTIONS_TAG, "").rpartition(": ")[2]
    return record.tags.get(VERDICT_TAG) or (f"reproduced: {of_others}" if of_others else "")


_FIXED: Mapping[str, Column] = {
    "run": lambda record: (record.run_id or "")[:8],
    "id": lambda record: record.run_id or "",
    "name": lambda record: record.run_name or "",
    "experiment": lambda record: record.experiment or "",
    "entry point": lambda record: record.entry_point or "",
    "status": lambda record: record.status or "",
    "started": lambda record: local_time(record.started_at),
    "took": duration,
    "code": lambda record: short_code(record.code),
    "commit": lambda record: (record.code.commit or "") if record.code else "",
    "project": lambda record: record.project or "",
    "verdict": _verdict,
    "exit code": lambda record: "" if record.exit_code is None else str(record.exit_code),
    "metrics": lambda record: ", ".join(
        f"{name}={value:.5g}" for name, value in list(record.metrics.items())[:_SHOWN_METRICS]
    ),
}
