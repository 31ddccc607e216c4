"""Finds rows page by page; each page continues after the last row of the previous one.

A page token holds the sort key of the last row, so pages stay correct during concurrent writes, and every page costs
the same. The first column to order by splits the rows into up to three phases, each served by an index: rows with a
value, rows with NaN, rows without a value. NaN and missing values come last in both directions, as in MLflow.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from runner.errors import InvalidValueError
from runner.store.database import Database
from runner.store.filters import Comparison, Kind, Operator, Ordering, parse_filter, parse_order
from runner.store.statements import Fragment, Key, Phase, Searchable, Statement

_LARGE = 5000
"""Number of rows from which walking an index in order is faster than sorting."""


MAX_COMPARISONS = 200
MAX_FIELDS = 50
MAX_PATTERN = 10_000


class Query(Struct, frozen=True, kw_only=True):
    """A search; ``scope`` has the conditions that apply in addition to the filter."""

    scope: tuple[Fragment, ...]
    filter: str = ""
    order_by: Sequence[str] = ()
    limit: int
    page_token: str | None = None


class Found(Struct, frozen=True):
    """The row numbers of a page, and the token of the next page."""

    numbers: tuple[int, ...]
    next_page_token: str | None = None


class _PageToken(Struct, frozen=True, array_like=True):
    """The end of a page: the phase and sort key of its last row. ``search`` is a checksum of the query."""

    search: int
    phase: Phase
    key: Key


def find(db: Database, searchable: Searchable, prepared: Query) -> Found:
    """Return one page of the rows that match a query.

    Raises:
        InvalidValueError: the filter, a column to order by or the token is invalid.
    """
    comparisons = parse_filter(prepared.filter, searchable.vocabulary)
    orderings = [parse_order(text, searchable.vocabulary) for text in prepared.order_by]
    _check_size(comparisons, orderings)
    search = _checksum(prepared)
    position = _read_token(prepared.page_token, search) if prepared.page_token else None
    phases = _phases(searchable, comparisons, orderings)
    if position is not None and position.phase not in phases:
        raise InvalidValueError("The page token is invalid")
    numbers: list[int] = []
    last = position
    for phase in phases[phases.index(position.phase) if position else 0 :]:
        statement = Statement(searchable, comparisons, orderings, phase)
        after = position.key if position and position.phase is phase else None
        wanted = prepared.limit - len(numbers)
        start = _start(db, searchable, prepared.scope, statement)
        rows = _run(db, statement.compile(prepared.scope, after, wanted + 1, start=start))
        for row in rows[:wanted]:
            numbers.append(row[0])
            last = _PageToken(search, phase, tuple(row[1:]))
        if len(rows) > wanted and last is not None:
            return Found(tuple(numbers), _make_token(last))
    return Found(tuple(numbers))


def _check_size(comparisons: Sequence[Comparison], orderings: Sequence[Ordering]) -> None:
    """Refuse a search over SQLite's limits: 64 joined tables and 1,000 nested expressions.

    Raises:
        InvalidValueError: the search exceeds a limit.
    """
    if len(comparisons) > MAX_COMPARISONS:
        raise InvalidValueError(f"A search can have at most {MAX_COMPARISONS} comparisons; got {len(comparisons)}")
    named = (*(one.field for one in comparisons), *(one.field for one in orderings))
    fields = {field for field in named if field.kind is not Kind.ATTRIBUTE}
    likes = (one.value for one in comparisons if one.operator in (Operator.LIKE, Operator.ILIKE))
    if any(len(str(pattern)) > MAX_PATTERN for pattern in likes):
        raise InvalidValueError(f"A pattern can have at most {MAX_PATTERN} characters")
    if len(fields) > MAX_FIELDS or len(orderings) > MAX_FIELDS:
        raise InvalidValueError(
            f"A search can name {MAX_FIELDS} metrics, parameters and tags, and order by as many; "
            f"this one names {len(fields)}, and orders by {len(orderings)}"
        )


def _run(db: Database, statement: Fragment) -> list[tuple[int, ...]]:
    return [tuple(row) for row in db.query(statement.sql, *statement.args)]


def _phases(
    searchable: Searchable, comparisons: Sequence[Comparison], orderings: Sequence[Ordering]
) -> tuple[Phase, ...]:
    if not orderings:
        return (Phase.VALUE,)
    field = orderings[0].field
    if field.kind is Kind.ATTRIBUTE:
        return (Phase.VALUE, Phase.MISSING) if field.key in searchable.nullable else (Phase.VALUE,)
    required = any(one.field == field and one.operator is not Operator.IS_NULL for one in comparisons)
    phases = (Phase.VALUE, Phase.NAN, Phase.MISSING) if field.kind is Kind.METRIC else (Phase.VALUE, Phase.MISSING)
    return phases[:-1] if required else phases


def _start(db: Database, searchable: Searchable, scope: Sequence[Fragment], statement: Statement) -> str:
    """Return the table to start with: the one that leaves few rows, else one whose index gives the order."""
    conditions = " AND ".join(f"({fragment.sql})" for fragment in scope) or "1"
    args = tuple(arg for fragment in scope for arg in fragment.args)
    everything = Fragment(f"SELECT 1 FROM {searchable.table} r WHERE {conditions}", args)
    if _count(db, everything) < _LARGE:
        return "r"
    counted = [(_count(db, rows), alias) for alias, rows in statement.seeks()]
    if counted and min(counted)[0] < _LARGE:
        return min(counted)[1]
    return statement.ordered or "r"


def _count(db: Database, rows: Fragment) -> int:
    """Return the number of rows, counted up to the point where it no longer changes the plan."""
    return int(db.query(f"SELECT count(*) FROM ({rows.sql} LIMIT ?)", *rows.args, _LARGE)[0][0])


def _checksum(prepared: Query) -> int:
    content = (prepared.filter, tuple(prepared.order_by), [(one.sql, one.args) for one in prepared.scope])
    return zlib.crc32(msgspec.msgpack.encode(content))


def _make_token(position: _PageToken) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(position)).decode()


def _read_token(token: str, search: int) -> _PageToken:
    try:
        position: _PageToken = msgspec.msgpack.decode(base64.urlsafe_b64decode(token), type=_PageToken)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidValueError("The page token is invalid") from error
    if position.search != search:
        raise InvalidValueError(
            "The page token belongs to another search",
            hint="Use the token with the filter, order and experiments of its search.",
        )
    return position
