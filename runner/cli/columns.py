"""Defines the columns of `proj list`: fixed ones, and any parameter, metric or tag by name or pattern."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from runner.base.suggestions import nearest
from runner.base.tags import INPUTS_CHANGED_TAG, PARENT_TAG, REPRODUCTIONS_TAG, VERDICT_TAG
from runner.cli.output import duration, local_time, seconds, short_code
from runner.errors import UsageError
from runner.model import RunRecord

_SHOWN = 3
"""Values of a run that a shared column shows; `proj show` prints all."""

CSV_COLUMNS = (
    *("run", "name", "experiment", "project", "entry point", "status", "exit code", "started", "ended", "seconds"),
    *("commit", "dirty", "tree", "parent", "params.*", "metrics.*"),
)
"""The default columns of CSV."""

Text = Callable[[RunRecord], str]


class Column(Struct, frozen=True, kw_only=True):
    """A column: its title, the text of a run's cell for people, and the same for programs, complete and exact."""

    title: str
    text: Text
    data: Text


def find_columns(names: Sequence[str], records: Sequence[RunRecord]) -> tuple[Column, ...]:
    """Return the columns with these names; a pattern such as ``params.*`` means all that the records have.

    Raises:
        UsageError: a column does not exist.
    """
    found: dict[str, Column] = {}
    for name in names:
        for column in _columns(name, records):
            found.setdefault(column.title, column)
    return tuple(found.values())


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated text."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def column_of(kind: str, key: str) -> Column:
    """Return the column of a metric, a parameter or a tag; ``kind`` is metrics, params or tags."""
    values, data = _KEYED[kind], _DATA.get(kind, _KEYED[kind])
    return Column(
        title=f"{kind}.{key}",
        text=lambda record: values(record).get(key, ""),
        data=lambda record: data(record).get(key, ""),
    )


def fixed_column(name: str) -> Column:
    """Return one of the columns that every run has."""
    return Column(title=name, text=_FIXED[name], data=_FIXED_DATA.get(name, _FIXED[name]))


def keys_of(kind: str, records: Iterable[RunRecord]) -> list[str]:
    """Return the names of the metrics, parameters or tags of the records, by their first occurrence."""
    return list(dict.fromkeys(key for record in records for key in _KEYED_NAMES[kind](record)))


def _columns(name: str, records: Sequence[RunRecord]) -> Iterator[Column]:
    if name in _FIXED:
        yield fixed_column(name)
        return
    kind, dot, key = name.partition(".")
    if not dot or not key or kind not in _KEYED:
        near = nearest(name, [*_FIXED, "params.*", "metrics.*", "tags.*"]) or _keyed_like(kind, key)
        raise UsageError(
            f"There is no column '{name}'{f'; did you mean {near}?' if near else ''}",
            hint=f"Columns are {', '.join(_FIXED)}, metrics.NAME, params.NAME, tags.NAME, and patterns like params.*.",
        )
    known = keys_of(kind, records) if set(key) & set("*?[") else []
    if key in known or not set(key) & set("*?["):
        yield column_of(kind, key)
        return
    yield from (column_of(kind, one) for one in known if fnmatchcase(one, key))


def _keyed_like(kind: str, key: str) -> str | None:
    """Return the name of a column of a parameter, metric or tag whose kind is misspelt, as in ``metric.rmse``."""
    near = nearest(kind, _KEYED) if key else None
    return f"{near}.{key}" if near else None


def _metrics(record: RunRecord) -> Mapping[str, str]:
    return {name: f"{value:.10g}" for name, value in record.metrics.items()}


def _exact_metrics(record: RunRecord) -> Mapping[str, str]:
    return {name: repr(value) for name, value in record.metrics.items()}


def _params(record: RunRecord) -> Mapping[str, str]:
    return {parameter.name: parameter.value for parameter in record.parameters}


def _tags(record: RunRecord) -> Mapping[str, str]:
    return record.tags


def own_tags(record: RunRecord) -> Mapping[str, str]:
    """Return the tags that people set; those of MLflow and proj repeat what the record has."""
    return {name: value for name, value in record.tags.items() if not name.startswith(("mlflow.", "proj."))}


def _joined(values: Mapping[str, str]) -> str:
    shown = [f"{name}={value}" for name, value in list(values.items())[:_SHOWN]]
    return ", ".join([*shown, "…"] if len(values) > _SHOWN else shown)


def _all(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


_KEYED: Mapping[str, Callable[[RunRecord], Mapping[str, str]]] = {
    "metrics": _metrics,
    "params": _params,
    "tags": _tags,
}
_DATA: Mapping[str, Callable[[RunRecord], Mapping[str, str]]] = {"metrics": _exact_metrics}
_KEYED_NAMES: Mapping[str, Callable[[RunRecord], Iterable[str]]] = {
    "metrics": lambda record: record.metrics,
    "params": lambda record: [parameter.name for parameter in record.parameters],
    "tags": own_tags,
}


def _verdict(record: RunRecord) -> str:
    """Return the verdict of a reproduction, or of the latest reproduction of a run."""
    of_others = record.tags.get(REPRODUCTIONS_TAG, "").rpartition(": ")[2]
    return record.tags.get(VERDICT_TAG) or (f"reproduced: {of_others}" if of_others else "")


_FIXED: Mapping[str, Text] = {
    "run": lambda record: (record.run_id or "")[:8],
    "id": lambda record: record.run_id or "",
    "name": lambda record: record.run_name or "",
    "experiment": lambda record: record.experiment or "",
    "entry point": lambda record: record.entry_point or "",
    "status": lambda record: record.status or "",
    "started": lambda record: local_time(record.started_at),
    "ended": lambda record: local_time(record.ended_at),
    "took": duration,
    "seconds": lambda record: _number(seconds(record)),
    "code": lambda record: short_code(record.code) + ("!" if INPUTS_CHANGED_TAG in record.tags else ""),
    "commit": lambda record: (record.code.commit or "") if record.code else "",
    "dirty": lambda record: str(record.code.dirty).lower() if record.code else "",
    "tree": lambda record: record.code.tree if record.code else "",
    "project": lambda record: record.project or "",
    "verdict": _verdict,
    "exit code": lambda record: "" if record.exit_code is None else str(record.exit_code),
    "parent": lambda record: record.tags.get(PARENT_TAG, "")[:8],
    "metrics": lambda record: _joined({name: f"{value:.5g}" for name, value in record.metrics.items()}),
    "params": lambda record: _joined(_params(record)),
    "tags": lambda record: _joined(own_tags(record)),
}

_FIXED_DATA: Mapping[str, Text] = {
    "run": lambda record: record.run_id or "",
    "started": lambda record: record.started_at or "",
    "ended": lambda record: record.ended_at or "",
    "took": lambda record: _number(seconds(record)),
    "code": lambda record: (record.code.commit or record.code.tree) if record.code else "",
    "parent": lambda record: record.tags.get(PARENT_TAG, ""),
    "metrics": lambda record: _all(_exact_metrics(record)),
    "params": lambda record: _all(_params(record)),
    "tags": lambda record: _all(own_tags(record)),
}


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
