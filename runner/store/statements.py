"""Compiles a search into one SQL statement; values are bound, identifiers come from fixed tables."""

from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec
from msgspec import Struct

from runner.store.filters import Comparison, Field, Kind, Operator, Ordering, Vocabulary

_INDEXED = 64
"""Number of characters of a text that are indexed."""

_SEEKING = {
    Operator.EQUAL,
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
}
"""The comparison operators that an index on values serves."""

Key = tuple[int | float | str | None, ...]
"""The sort key of a row."""


class Fragment(Struct, frozen=True):
    """A piece of SQL with the values for its placeholders, in order."""

    sql: str
    args: tuple[object, ...] = ()


class ValueTable(Struct, frozen=True, kw_only=True):
    """A table of keys and values, with the column that refers to the owner."""

    name: str
    column: str
    has_index: bool = False
    """Whether key and value are indexed; texts by their first characters."""


class Searchable(Struct, frozen=True, kw_only=True):
    """A searchable table, called ``r`` in the statement, with its value tables."""

    table: str
    vocabulary: Vocabulary
    columns: Mapping[str, str]
    """The column of each attribute."""
    nullable: frozenset[str] = frozenset()
    values: Mapping[Kind, ValueTable]
    newest: str
    """The column that breaks ties, newest first."""
    absent_tags: Mapping[str, str] = {}
    """Tags whose absence means a value."""


class Phase(str, Enum):
    """The rows that a statement returns, by the first column to order by."""

    VALUE = "value"
    NAN = "nan"
    MISSING = "missing"


class _Term(Struct, frozen=True):
    """A part of the sort key."""

    sql: str
    descending: bool = False


class Statement:
    """The search for one phase.

    Args:
        searchable: what is searched.
        comparisons: the conditions that each row meets.
        orderings: the columns to order by; ties are broken newest first.
        phase: the rows to return.
    """

    def __init__(
        self,
        searchable: Searchable,
        comparisons: Sequence[Comparison],
        orderings: Sequence[Ordering],
        phase: Phase = Phase.VALUE,
    ) -> None:
        self._searchable = searchable
        self._aliases: dict[Field, str] = {}
        self._joins: list[Fragment] = []
        self._where: list[Fragment] = []
        self._terms: list[_Term] = []
        self._ordered: str | None = None
        self._seeks: dict[Field, list[Fragment]] = {}
        if orderings:
            self._order_first(orderings[0], phase)
        for comparison in comparisons:
            self._where.append(self._condition(comparison))
        for ordering in orderings[1:]:
            self._order_further(ordering)
        self._terms += [_Term(f"r.{searchable.newest}", descending=True), _Term("r.id", descending=True)]

    @property
    def ordered(self) -> str | None:
        """The alias of the table whose index gives the order of the first column, or None."""
        return self._ordered

    def seeks(self) -> list[tuple[str, Fragment]]:
        """Return each alias with an index for its conditions, and the query for the matching rows."""
        found = []
        for field, conditions in self._seeks.items():
            where = " AND ".join(condition.sql for condition in conditions)
            args = (field.key, *(arg for condition in conditions for arg in condition.args))
            table = self._searchable.values[field.kind].name
            found.append((self._aliases[field], Fragment(f"SELECT 1 FROM {table} WHERE key = ? AND {where}", args)))
        return found

    def compile(self, scope: Sequence[Fragment], after: Key | None, limit: int, *, start: str) -> Fragment:
        """Return the statement for the rows after a sort key; each result row has row number and sort key.

        The tables are joined in nested loops starting at the alias ``start``; CROSS JOIN keeps SQLite, which lacks
        statistics, from choosing another order. https://www.sqlite.org/optoverview.html#crossjoin
        """
        where = [*scope, *self._where]
        if after is not None:
            where.append(self._continuation(after))
        names = {"r": self._searchable.table}
        names |= {alias: self._searchable.values[field.kind].name for field, alias in self._aliases.items()}
        order = [start, *(alias for alias in names if alias != start)]
        inner = " CROSS JOIN ".join(f"{names[alias]} {alias}" for alias in order)
        sources = " ".join([inner, *(join.sql for join in self._joins)])
        columns = ", ".join(["r.id", *(term.sql for term in self._terms)])
        sorting = ", ".join(f"{term.sql} {'DESC' if term.descending else 'ASC'}" for term in self._terms)
        conditions = " AND ".join(f"({fragment.sql})" for fragment in where) or "1"
        args = [arg for fragment in (*self._joins, *where) for arg in fragment.args]
        return Fragment(
            f"SELECT {columns} FROM {sources} WHERE {conditions} ORDER BY {sorting} LIMIT ?", (*args, limit)
        )

    def _order_first(self, ordering: Ordering, phase: Phase) -> None:
        field = ordering.field
        if field.kind is Kind.ATTRIBUTE:
            column = self._column(field)
            if field.key in self._searchable.nullable:
                self._where.append(Fragment(f"{column} IS {'NOT ' if phase is Phase.VALUE else ''}NULL"))
            value = column
        elif phase is Phase.MISSING:
            self._where.append(self._absence(field))
            return
        else:
            alias = self._required(field)
            value = f"{alias}.value"
            if field.kind is Kind.METRIC:
                self._where.append(Fragment(f"{value} IS {'NOT ' if phase is Phase.VALUE else ''}NULL"))
                self._ordered = alias if self._searchable.values[field.kind].has_index else None
        if phase is Phase.VALUE:
            self._terms.append(_Term(value, ordering.descending))

    def _order_further(self, ordering: Ordering) -> None:
        field = ordering.field
        if field.kind is Kind.ATTRIBUTE:
            value = self._column(field)
            if field.key in self._searchable.nullable:
                self._terms.append(_Term(f"({value} IS NULL)"))
        else:
            table = self._searchable.values[field.kind]
            alias = self._aliases.get(field)
            if alias is None:
                alias = f"o{len(self._joins)}"
                on = f"{alias}.{table.column} = r.id AND {alias}.key = ?"
                self._joins.append(Fragment(f"LEFT JOIN {table.name} {alias} ON {on}", (field.key,)))
            value = f"{alias}.value"
            rank = f"CASE WHEN {alias}.key IS NULL THEN 2 WHEN {value} IS NULL THEN 1 ELSE 0 END"
            self._terms.append(_Term(rank))
        self._terms.append(_Term(value, ordering.descending))

    def _condition(self, comparison: Comparison) -> Fragment:
        field, operator = comparison.field, comparison.operator
        if field.kind is Kind.DATASET:
            return _dataset_condition(comparison)
        if field.kind is Kind.ATTRIBUTE:
            return _compare(self._column(field), comparison)
        if field.kind is Kind.TAG and field.key in self._searchable.absent_tags:
            return self._defaulted(comparison)
        if operator is Operator.IS_NULL:
            return self._absence(field)
        alias = self._required(field)
        if operator in _SEEKING and self._searchable.values[field.kind].has_index:
            self._seeks.setdefault(field, []).append(self._value_condition("value", comparison))
        return self._value_condition(f"{alias}.value", comparison)

    def _value_condition(self, value: str, comparison: Comparison) -> Fragment:
        operator, kind = comparison.operator, comparison.field.kind
        if operator is Operator.IS_NOT_NULL:
            return Fragment("1")
        if operator is Operator.NOT_EQUAL and kind is Kind.METRIC:
            # NULL means NaN here, which differs from every number.
            return Fragment(f"{value} IS NOT ?", (comparison.value,))
        compared = _compare(value, comparison)
        if operator is Operator.EQUAL and kind is not Kind.METRIC and self._searchable.values[kind].has_index:
            start = str(comparison.value)[:_INDEXED]
            # The plus keeps SQLite from substituting the value into substr, which would disable the index.
            return Fragment(f"substr({value}, 1, {_INDEXED}) = ? AND +{compared.sql}", (start, *compared.args))
        return compared

    def _required(self, field: Field) -> str:
        """Return the alias of a field's value; rows without it are excluded."""
        if field not in self._aliases:
            alias = self._aliases[field] = f"v{len(self._aliases)}"
            column = self._searchable.values[field.kind].column
            self._where.append(Fragment(f"{alias}.{column} = r.id AND {alias}.key = ?", (field.key,)))
        return self._aliases[field]

    def _absence(self, field: Field) -> Fragment:
        table = self._searchable.values[field.kind]
        absent = f"NOT EXISTS (SELECT 1 FROM {table.name} a WHERE a.{table.column} = r.id AND a.key = ?)"
        return Fragment(absent, (field.key,))

    def _defaulted(self, comparison: Comparison) -> Fragment:
        table, field = self._searchable.values[comparison.field.kind], comparison.field
        value = f"(SELECT value FROM {table.name} a WHERE a.{table.column} = r.id AND a.key = ?)"
        compared = _compare(f"coalesce({value}, ?)", comparison)
        return Fragment(compared.sql, (field.key, self._searchable.absent_tags[field.key], *compared.args))

    def _column(self, field: Field) -> str:
        return f"r.{self._searchable.columns[field.key]}"

    def _continuation(self, after: Key) -> Fragment:
        """Return the condition for rows after a sort key; IS compares like = and treats NULL as equal to NULL."""
        sql = "0"
        args: Key = ()
        for term, value in reversed(list(zip(self._terms, after, strict=True))):
            sign = "<" if term.descending else ">"
            sql, args = f"{term.sql} {sign} ? OR ({term.sql} IS ? AND ({sql}))", (value, value, *args)
        if self._ordered is not None and self._terms[0].sql == f"{self._ordered}.value":
            sign = "<=" if self._terms[0].descending else ">="
            sql, args = f"{self._terms[0].sql} {sign} ? AND ({sql})", (after[0], *args)
        return Fragment(sql, args)


def _compare(column: str, comparison: Comparison) -> Fragment:
    operator, value = comparison.operator, comparison.value
    if operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
        return Fragment(f"{column} {operator.value}")
    if operator in (Operator.IN, Operator.NOT_IN):
        return Fragment(
            f"{column} {operator.value} (SELECT value FROM json_each(?))", (msgspec.json.encode(value).decode(),)
        )
    if operator is Operator.LIKE:
        return Fragment(f"{column} GLOB ?", (_glob(str(value)),))
    if operator is Operator.ILIKE:
        return Fragment(f"{column} LIKE ?", (value,))
    return Fragment(f"{column} {operator.value} ?", (value,))


def _dataset_condition(comparison: Comparison) -> Fragment:
    column = "i.context" if comparison.field.key == "context" else f"d.{comparison.field.key}"
    absent = comparison.operator is Operator.IS_NULL
    compared = Fragment(f"{column} IS NOT NULL") if absent else _compare(column, comparison)
    inputs = "SELECT 1 FROM inputs i JOIN datasets d ON d.id = i.dataset WHERE i.run = r.id"
    return Fragment(f"{'NOT ' if absent else ''}EXISTS ({inputs} AND {compared.sql})", compared.args)


def _glob(pattern: str) -> str:
    """Convert a LIKE pattern to GLOB, which is case-sensitive."""
    words = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(words.get(letter, letter) for letter in pattern)
