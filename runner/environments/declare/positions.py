"""Parses YAML files with the source text and line of each value; YAML's own types turn ``3.10`` into ``3.1``."""

import posixpath
from collections.abc import Sequence

from msgspec import Struct

from runner.base.foreign_text import ForeignTextError, Limits
from runner.base.yaml_document import Field, Kind, Node, read_document
from runner.environments.declare.requirements import COMMENT
from runner.errors import EnvironmentSetupError

LIMITS = Limits(nodes=20_000)
MAX_FAULTS = 20
"""Most faults of a file that an error names."""


def list_faults(faults: Sequence[str]) -> str:
    """Return the faults of a file as one text; of many faults, the first ones and how many more there are."""
    more = [f"and {len(faults) - MAX_FAULTS:,} more"] if len(faults) > MAX_FAULTS else []
    return "; ".join([*faults[:MAX_FAULTS], *more])


class Item(Struct, frozen=True):
    """An item of a list: text, or a mapping of one key to a list (conda's ``pip:``)."""

    line: int
    text: str
    nested: tuple["Item", ...] = ()
    is_nested: bool = False


class Document(Struct, frozen=True):
    """A YAML file whose top level is a mapping or empty."""

    file: str
    values: dict[str, Field]

    @property
    def folder(self) -> str:
        """The folder of the file, relative to the project folder."""
        return posixpath.dirname(self.file)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self.values)

    def line(self, key: str) -> int:
        """Return the line at which a key's value starts, counted from 1."""
        return self.values[key].value.position.line

    def text(self, key: str, faults: list[str]) -> str | None:
        """Return the source text of a scalar, or None if it has no value. Faults are appended to ``faults``."""
        node = self._value(key)
        if node is None:
            return None
        if node.kind is not Kind.SCALAR:
            faults.append(f"line {self.line(key)}: {key} must be a string")
            return None
        return node.source.strip() or None

    def items(self, key: str, faults: list[str]) -> tuple[Item, ...]:
        """Return the items of a list, or no items if it has no value. Faults are appended to ``faults``."""
        node = self._value(key)
        if node is None:
            return ()
        if node.kind is not Kind.LIST:
            faults.append(f"line {self.line(key)}: {key} must be a list, each item on its own line after '- '")
            return ()
        return tuple(item for child in node.items for item in _items(child))

    def _value(self, key: str) -> Node | None:
        found = self.values.get(key)
        return None if found is None or found.value.is_null else found.value


def _items(node: Node) -> tuple[Item, ...]:
    if node.kind is Kind.SCALAR:
        text = "" if node.is_null else COMMENT.sub("", node.source).strip()
        return (Item(node.position.line, text),) if text else ()
    if node.kind is Kind.LIST:
        nested = tuple(item for child in node.items for item in _items(child))
        return (Item(node.position.line, "", nested, is_nested=True),)
    return tuple(_pair(field) for field in node.fields.values())


def _pair(field: Field) -> Item:
    children = field.value.items if field.value.kind is Kind.LIST else [field.value]
    nested = tuple(item for child in children for item in _items(child))
    return Item(field.key.position.line, field.key.source, nested, is_nested=True)


def parse(file: str, content: bytes) -> Document:
    """Parse a YAML file without converting its scalars.

    Raises:
        EnvironmentSetupError: the file is not YAML, or its top level is not a mapping.
    """
    try:
        root = read_document(content, LIMITS, cycles=False)
    except ForeignTextError as error:
        where = f"{file}, line {error.line}" if error.line else file
        raise EnvironmentSetupError(f"{file} can't be read: {error.problem}", context=where) from None
    if root is None:
        return Document(file, {})
    if root.kind is not Kind.MAPPING:
        what = "list" if root.kind is Kind.LIST else "text"
        raise EnvironmentSetupError(f"{file} must hold keys and values at its top level, not a {what}", context=file)
    return Document(file, root.fields)
