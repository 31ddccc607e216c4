"""YAML files with the text and the line of each value, as YAML's own types lose ``3.10``."""

import posixpath
from typing import Any

from msgspec import Struct

from runner.environments.requirements import COMMENT, decode
from runner.errors import EnvironmentSetupError

Node = Any
"""A node of PyYAML, which is too slow to import here."""

NULL = "tag:yaml.org,2002:null"


class Item(Struct, frozen=True):
    """An item of a list: text, or a mapping of one key to a list (conda's ``pip:``)."""

    line: int
    text: str
    nested: tuple["Item", ...] = ()
    is_nested: bool = False


class Document(Struct, frozen=True):
    """A YAML file whose top level is a mapping, or that is empty."""

    file: str
    values: dict[str, Node]

    @property
    def folder(self) -> str:
        """The folder of the file, relative to the project."""
        return posixpath.dirname(self.file)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self.values)

    def line(self, key: str) -> int:
        """Return the line at which a key's value starts, counted from 1."""
        return int(self.values[key].start_mark.line) + 1

    def text(self, key: str, faults: list[str]) -> str | None:
        """Return a scalar as it is written in the file, None for no value."""
        node = self.values.get(key)
        if node is None or (node.id == "scalar" and node.tag == NULL):
            return None
        if node.id != "scalar":
            faults.append(f"line {self.line(key)}: {key} must be a text")
            return None
        return str(node.value).strip() or None

    def items(self, key: str, faults: list[str]) -> tuple[Item, ...]:
        """Return the items of a list, none for no value."""
        node = self.values.get(key)
        if node is None or (node.id == "scalar" and node.tag == NULL):
            return ()
        if node.id != "sequence":
            faults.append(f"line {self.line(key)}: {key} must be a list, each item on its own line after '- '")
            return ()
        return tuple(item for child in node.value for item in _items(child))


def _items(node: Node) -> tuple[Item, ...]:
    line = int(node.start_mark.line) + 1
    if node.id == "scalar":
        text = "" if node.tag == NULL else COMMENT.sub("", str(node.value)).strip()
        return (Item(line, text),) if text else ()
    if node.id == "sequence":
        return (Item(line, "", tuple(i for child in node.value for i in _items(child)), is_nested=True),)
    return tuple(_pair(key, value) for key, value in node.value)


def _pair(key: Node, value: Node) -> Item:
    children = value.value if value.id == "sequence" else [value]
    nested = tuple(item for child in children for item in _items(child))
    return Item(int(key.start_mark.line) + 1, str(key.value), nested, is_nested=True)


def parse(file: str, content: bytes) -> Document:
    """Parse a YAML file without giving its scalars types.

    Raises:
        EnvironmentSetupError: it is not YAML, or its top level is not a mapping.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node: Node = yaml.compose(decode(content), Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}" if mark else file
        what = getattr(error, "problem", None) or str(error)
        raise EnvironmentSetupError(f"{file} is not YAML: {what}", context=where) from error
    if node is None:
        return Document(file, {})
    if node.id != "mapping":
        raise EnvironmentSetupError(f"{file} must hold keys and values at its top level, not a {node.id}", context=file)
    return Document(file, {str(key.value): value for key, value in node.value})
