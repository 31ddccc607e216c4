r"""Parses MLflow's search language.

filter      = comparison { AND comparison }
comparison  = field ( = | != | < | <= | > | >= | LIKE | ILIKE ) value
            | field [ NOT ] IN ( text { , text } )
            | field IS [ NOT ] NULL
field       = attribute | prefix . key
key         = word | "…" | `…`
value       = text | number
text        = '…' | "…"          a doubled quote means one quote
order       = field [ ASC | DESC ]

https://mlflow.org/docs/latest/search-runs.html
"""

import re
from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from runner.base.suggestions import nearest
from runner.errors import InvalidValueError


class Operator(str, Enum):
    """The comparison operators."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


class Kind(str, Enum):
    """The kinds of fields."""

    ATTRIBUTE = "attribute"
    METRIC = "metric"
    PARAM = "parameter"
    TAG = "tag"
    DATASET = "dataset"


class Field(Struct, frozen=True):
    """A field to compare or order by."""

    kind: Kind
    key: str


class Comparison(Struct, frozen=True, kw_only=True):
    """A condition; ``value`` is a tuple for IN and None for IS NULL."""

    field: Field
    operator: Operator
    value: str | int | float | tuple[str, ...] | None = None


class Ordering(Struct, frozen=True, kw_only=True):
    """A column to order by."""

    field: Field
    descending: bool = False


class Vocabulary(Struct, frozen=True, kw_only=True):
    """The searchable fields: prefixes by kind, and attributes with their aliases."""

    prefixes: Mapping[str, Kind]
    attributes: Mapping[str, str]
    numbers: frozenset[str]
    """The numeric attributes."""


class UnknownAttributeError(InvalidValueError):
    """A search names an attribute that does not exist: ``name``."""

    def __init__(self, fault: InvalidValueError, name: str) -> None:
        super().__init__(fault.message, context=fault.context, hint=fault.hint)
        self.name = name


class _Token(Struct, frozen=True):
    kind: str
    text: str
    offset: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<word>\w[\w.\-/:]*)
    |(?P<single>'(?:[^']|'')*')
    |(?P<double>"(?:[^"]|"")*")
    |(?P<back>`[^`]*`)
    |(?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)

MAX_LENGTH = 100_000
"""Maximum number of characters of a filter: enough for the ids of about 2,500 runs."""

_TEXT_ONLY = {Operator.LIKE, Operator.ILIKE, Operator.IN, Operator.NOT_IN}
_RANGES = {Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL}


def parse_filter(text: str, vocabulary: Vocabulary) -> tuple[Comparison, ...]:
    """Parse a filter.

    Raises:
        InvalidValueError: the text does not follow the grammar; the context shows the position.
    """
    _check_length(text)
    return _Reader(text, vocabulary).read_filter()


def parse_order(text: str, vocabulary: Vocabulary) -> Ordering:
    """Parse one column to order by.

    Raises:
        InvalidValueError: the text does not follow the grammar; the context shows the position.
    """
    _check_length(text)
    return _Reader(text, vocabulary).read_order()


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise InvalidValueError(f"A search can have at most {MAX_LENGTH} characters; got {len(text)}")


class _Reader:
    """Parses the tokens of a filter or of a column to order by."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._tokens = self._split()
        self._next = 0

    def read_filter(self) -> tuple[Comparison, ...]:
        comparisons: list[Comparison] = []
        while self._peek().kind != "end":
            if comparisons and not self._accept("AND"):
                hint = "OR is not part of this language." if self._peek().text.upper() == "OR" else None
                raise self._fault("expected AND", hint)
            comparisons.append(self._read_comparison())
        return tuple(comparisons)

    def read_order(self) -> Ordering:
        offset = self._peek()
        field = self._read_field()
        if field.kind is Kind.DATASET:
            raise self._fault("a dataset gives no order", at=offset)
        descending = self._accept("DESC")
        if not descending:
            self._accept("ASC")
        if self._peek().kind != "end":
            raise self._fault("expected ASC, DESC or nothing more")
        return Ordering(field=field, descending=descending)

    def _read_comparison(self) -> Comparison:
        field = self._read_field()
        offset = self._peek()
        operator = self._read_operator()
        if operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
            return Comparison(field=field, operator=operator)
        numeric = self._is_number(field)
        if operator in (_TEXT_ONLY if numeric else _RANGES):
            known = "=, !=, <, <=, > and >=" if numeric else "=, !=, LIKE, ILIKE and IN"
            hint = f"It is a {'number' if numeric else 'text'}, which {known} compare."
            raise self._fault(f"'{operator.value}' can't compare {field.kind.value} '{field.key}'", hint, at=offset)
        if operator in (Operator.IN, Operator.NOT_IN):
            return Comparison(field=field, operator=operator, value=self._read_list())
        return Comparison(field=field, operator=operator, value=self._read_number() if numeric else self._read_text())

    def _read_field(self) -> Field:
        token = self._take()
        if token.kind not in ("word", "back", "double"):
            raise self._fault("expected a field such as metrics.rmse or status", at=token)
        prefix, dot, key = token.text.partition(".")
        if token.kind == "word" and dot and prefix.lower() in self._vocabulary.prefixes:
            kind = self._vocabulary.prefixes[prefix.lower()]
            field = Field(kind, key or self._read_quoted_key(token))
        else:
            field = Field(Kind.ATTRIBUTE, _unquoted(token))
        return self._named(field, token)

    def _read_quoted_key(self, after: _Token) -> str:
        token = self._take()
        if token.kind not in ("double", "back", "single") or token.offset != after.offset + len(after.text):
            raise self._fault(f"expected a name right after '{after.text}'", at=token)
        return _unquoted(token)

    def _named(self, field: Field, token: _Token) -> Field:
        """Return a field with its canonical name."""
        if field.kind is not Kind.ATTRIBUTE and field.kind is not Kind.DATASET:
            return field
        known = (
            self._vocabulary.attributes
            if field.kind is Kind.ATTRIBUTE
            else {"name": "name", "digest": "digest", "context": "context"}
        )
        name = known.get(field.key) or known.get(field.key.lower())
        if name is None:
            near = nearest(field.key, known)
            names = ", ".join(sorted(set(known.values())))
            hint = f"Did you mean {near}?" if near else f"There are {names}."
            fault = self._fault(f"unknown {field.kind.value} '{field.key}'", hint, at=token)
            raise UnknownAttributeError(fault, field.key) if field.kind is Kind.ATTRIBUTE else fault
        return Field(field.kind, name)

    def _read_operator(self) -> Operator:
        token = self._take()
        symbol = token.text.upper() if token.kind in ("word", "sign") else ""
        if symbol == "IS":
            negated = self._accept("NOT")
            self._expect("NULL")
            return Operator.IS_NOT_NULL if negated else Operator.IS_NULL
        if symbol == "NOT":
            self._expect("IN")
            return Operator.NOT_IN
        symbol = "!=" if symbol == "<>" else symbol
        if symbol in ("=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "IN"):
            return Operator(symbol)
        raise self._fault("expected a comparison such as = or LIKE", at=token)

    def _read_list(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._read_text()]
        while self._accept(","):
            values.append(self._read_text())
        self._expect(")")
        return tuple(values)

    def _read_text(self) -> str:
        token = self._take()
        if token.kind not in ("single", "double"):
            hint = f"Write '{token.text}' with its quotes." if token.kind in ("number", "word") else None
            raise self._fault("expected a text in quotes", hint, at=token)
        return _unquoted(token)

    def _read_number(self) -> int | float:
        token = self._take()
        if token.kind != "number":
            raise self._fault("expected a number", at=token)
        try:
            number = int(token.text)
        except ValueError:
            return float(token.text)
        return number if -(2**63) <= number < 2**63 else float(number)

    def _is_number(self, field: Field) -> bool:
        return field.kind is Kind.METRIC or (field.kind is Kind.ATTRIBUTE and field.key in self._vocabulary.numbers)

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        offset = 0
        while offset < len(self._text):
            match = _TOKENS.match(self._text, offset)
            if match is None:
                what = "this quote is not closed" if self._text[offset] in "'\"`" else "unexpected character"
                raise self._fault(what, at=_Token("", "", offset))
            if match.lastgroup != "space":
                tokens.append(_Token(match.lastgroup or "", match.group(), offset))
            offset = match.end()
        return [*tokens, _Token("end", "", len(self._text))]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _accept(self, symbol: str) -> bool:
        token = self._peek()
        if token.kind in ("word", "sign") and token.text.upper() == symbol:
            self._take()
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self._fault(f"expected {symbol}")

    def _fault(self, what: str, hint: str | None = None, *, at: _Token | None = None) -> InvalidValueError:
        offset = (at or self._peek()).offset
        start = max(0, offset - 60)
        line = re.sub(r"\s", " ", self._text[start : offset + 60])
        return InvalidValueError(
            f"Invalid search, at character {offset + 1}: {what}",
            context=f"{line}\n{' ' * (offset - start)}^",
            hint=hint,
        )


def _unquoted(token: _Token) -> str:
    if token.kind == "single":
        return token.text[1:-1].replace("''", "'")
    if token.kind == "double":
        return token.text[1:-1].replace('""', '"')
    return token.text[1:-1] if token.kind == "back" else token.text
