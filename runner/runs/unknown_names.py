"""Names the metrics, parameters and tags in a search that no run has, and what was probably meant."""

from collections.abc import Callable, Iterator, Sequence

from runner.base.suggestions import near_words
from runner.errors import InvalidValueError
from runner.model import RunRecord
from runner.runs.reader import RunQuery, RunReader
from runner.store.filters import Field, Kind, UnknownAttributeError, parse_filter, parse_order
from runner.store.search import RUNS, RecordPage

_LOOKED_AT = 200
"""The newest runs whose names are known; older ones are not read to explain a search."""
_WORDS = {Kind.METRIC: ("metric", "metrics"), Kind.PARAM: ("parameter", "params"), Kind.TAG: ("tag", "tags")}


def search_explained(reader: RunReader, query: RunQuery, report: Callable[[str], None]) -> RecordPage:
    """Return the records that match a query; report the names in it that no run has.

    Raises:
        InvalidValueError: the query is not valid; the hint has the name that was probably meant.
    """
    try:
        page = reader.search(query)
    except UnknownAttributeError as error:
        near = _suggestion(error.name, list(_keys(_newest(reader))))
        raise InvalidValueError(error.message, context=error.context, hint=near or error.hint) from error
    absent = [field for field in _fields(query) if not _has(field, page.records)]
    if absent and (not page.records or query.order_by):
        _report_absent(absent, _newest(reader), report)
    return page


def _report_absent(fields: Sequence[Field], records: Sequence[RunRecord], report: Callable[[str], None]) -> None:
    for field in dict.fromkeys(fields):
        if records and not _has(field, records):
            near = _suggestion(field.key, list(_keys(records)))
            report(f"no run has the {_WORDS[field.kind][0]} '{field.key}'" + (f"; {near}" if near else ""))


def _newest(reader: RunReader) -> tuple[RunRecord, ...]:
    return reader.search(RunQuery(limit=_LOOKED_AT)).records


def _fields(query: RunQuery) -> Iterator[Field]:
    """Yield the metrics, parameters and tags that a query names; a filter that only the server understands has none."""
    try:
        found = [
            *(one.field for one in parse_filter(query.filter, RUNS.vocabulary)),
            *(parse_order(text, RUNS.vocabulary).field for text in query.order_by),
        ]
    except InvalidValueError:
        return
    yield from (field for field in found if field.kind in _WORDS)


def _has(field: Field, records: Sequence[RunRecord]) -> bool:
    return any((field.kind, field.key) in _names(record) for record in records)


def _names(record: RunRecord) -> set[tuple[Kind, str]]:
    return {
        *((Kind.METRIC, name) for name in record.metrics),
        *((Kind.PARAM, parameter.name) for parameter in record.parameters),
        *((Kind.TAG, name) for name in record.tags),
    }


def _keys(records: Sequence[RunRecord]) -> Iterator[str]:
    """Yield the names of the records as a search has them: ``metrics.rmse``; not the tags of proj and MLflow."""
    names = dict.fromkeys(one for record in records for one in sorted(_names(record)))
    for kind, name in names:
        if not name.startswith(("proj.", "mlflow.")):
            yield f"{_WORDS[kind][1]}.{name}"


def _suggestion(name: str, keys: Sequence[str]) -> str | None:
    """Return a hint with the keys that have this name or one like it."""
    plain = name.rpartition(".")[2].lower()
    by_name: dict[str, list[str]] = {}
    for key in keys:
        by_name.setdefault(key.partition(".")[2].lower(), []).append(key)
    squeezed = {one.replace("_", "").replace("-", ""): one for one in by_name}
    exact = by_name.get(name.lower()) or by_name.get(plain) or by_name.get(squeezed.get(plain.replace("_", ""), ""))
    near = exact or [key for one in near_words(plain, by_name, most=2) for key in by_name[one]]
    return f"did you mean {' or '.join(near[:3])}?" if near else None
