"""Parses YAML into nodes with their positions, so that errors can name the line."""

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.base.foreign_text import SMALL, ForeignTextError, Limits, Position, compose_yaml, contains_itself

if TYPE_CHECKING:
    import yaml

MERGE = "tag:yaml.org,2002:merge"
VALUE = "tag:yaml.org,2002:value"
TEXT = "tag:yaml.org,2002:str"
KEY_IS_NO_TEXT = "it has a key that is not a text"


class Kind(str, Enum):
    """The shapes of YAML."""

    SCALAR = "scalar"
    LIST = "list"
    MAPPING = "mapping"


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """A node of a document with its position.

    ``source`` is the text of a scalar, ``value`` what YAML 1.1 makes of it; ``problem`` says why it makes nothing of
    it. Keys of ``fields`` are source texts; of duplicate keys the last one counts, and a nearer key beats a merged one.
    """

    kind: Kind
    position: Position
    source: str = ""
    value: object = None
    problem: str | None = None
    last_line: int = 0
    lone_equals: bool = False
    """Whether it is a plain ``=``, which PyYAML can't convert."""
    items: list["Node"] = []
    fields: dict[str, "Field"] = {}
    duplicates: list["Node"] = []

    @property
    def is_null(self) -> bool:
        """Return whether this is a YAML null."""
        return self.kind is Kind.SCALAR and self.value is None and self.problem is None

    @property
    def is_text(self) -> bool:
        """Return whether this is a string, not a number, boolean or date."""
        return self.kind is Kind.SCALAR and isinstance(self.value, str) and self.problem is None

    def field(self, name: str) -> "Node | None":
        """Return the value of a key, or None if the key is absent or has no value."""
        found = self.fields.get(name)
        return None if found is None or found.value.is_null else found.value


class Field(Struct, frozen=True, eq=False):
    """A key of a mapping with its value."""

    key: Node
    value: Node


def read_document(
    content: bytes | str, limits: Limits = SMALL, *, like_mlflow: bool = False, cycles: bool = True
) -> Node | None:
    """Return the document in a YAML text, or None if it has only comments.

    Raises:
        ForeignTextError: it is not YAML, has keys that are no texts, or is larger or deeper than agreed; or a value
            contains itself and ``cycles`` are not accepted.
    """
    root = compose_yaml(content, limits, like_mlflow=like_mlflow)
    if root is not None and not cycles and contains_itself(root):
        raise ForeignTextError("a value contains itself")
    return None if root is None else _Conversion().node(root)


class _Conversion:
    """Converts the nodes of PyYAML; aliases stay shared."""

    def __init__(self) -> None:
        import yaml

        self.done: dict[int, Node] = {}
        self.constructor = yaml.constructor.SafeConstructor()

    def node(self, node: "yaml.Node") -> Node:
        """Convert a node of PyYAML."""
        import yaml

        if id(node) in self.done:
            return self.done[id(node)]
        if isinstance(node, yaml.ScalarNode):
            self.done[id(node)] = self._scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            self.done[id(node)] = Node(kind=Kind.LIST, position=_position(node), items=[])
            self.done[id(node)].items.extend(self.node(child) for child in node.value)
        else:
            self.done[id(node)] = Node(kind=Kind.MAPPING, position=_position(node), fields={}, duplicates=[])
            self._fill(self.done[id(node)], node)
        return self.done[id(node)]

    def _scalar(self, node: "yaml.ScalarNode") -> Node:
        value: object = node.value
        problem = None
        if node.tag not in (TEXT, VALUE, MERGE):
            import yaml

            try:
                value = self.constructor.construct_object(node)
                str(value)
            except yaml.MarkedYAMLError as error:
                problem = str(error.problem)
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
                problem = str(error) or type(error).__name__
        return Node(
            kind=Kind.SCALAR,
            position=_position(node),
            source=node.value,
            value=value,
            problem=problem,
            last_line=node.end_mark.line + 1,
            lone_equals=node.tag == VALUE,
        )

    def _fill(self, mapping: Node, node: "yaml.Node") -> None:
        merged: dict[str, Field] = {}
        own: dict[str, Field] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                merged.update(self._merged(value_node))
                continue
            key = self.node(key_node)
            if key.kind is not Kind.SCALAR:
                raise ForeignTextError(KEY_IS_NO_TEXT, key.position.line, key.position.column)
            if key.source in own:
                mapping.duplicates.append(own[key.source].key)
            own[key.source] = Field(key, self.node(value_node))
        mapping.fields.update(merged)
        mapping.fields.update(own)

    def _merged(self, node: "yaml.Node") -> dict[str, Field]:
        """Return the entries that ``<<`` merges; of several mappings the first one wins."""
        source = self.node(node)
        sources = [source] if source.kind is Kind.MAPPING else source.items[::-1]
        fields: dict[str, Field] = {}
        if source.kind is Kind.SCALAR or any(item.kind is not Kind.MAPPING for item in sources):
            position = source.position
            raise ForeignTextError("it merges something that is not a mapping", position.line, position.column)
        for mapping in sources:
            fields.update(mapping.fields)
        return fields


def _position(node: "yaml.Node") -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def text_of(node: Node) -> str:
    """Return a value as MLflow reads it: ``str()`` of the value in YAML 1.1, so ``010`` is 8 and ``yes`` is True."""
    return node.value if isinstance(node.value, str) else str(_plain(node, {}))


def problem_of(node: Node, seen: set[int] | None = None) -> str | None:
    """Return why a value, or a part of it, is invalid in YAML 1.1, or None."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return None
    seen.add(id(node))
    parts = [*node.items, *(part for field in node.fields.values() for part in (field.key, field.value))]
    return node.problem or next((problem for part in parts if (problem := problem_of(part, seen))), None)


def plain_of(node: Node) -> object:
    """Return a value as plain Python data."""
    return _plain(node, {})


def _plain(node: Node, done: dict[int, object]) -> object:
    if node.kind is Kind.SCALAR:
        return node.source if node.problem else node.value
    if id(node) in done:
        return done[id(node)]
    if node.kind is Kind.LIST:
        items: list[object] = []
        done[id(node)] = items
        items.extend(_plain(item, done) for item in node.items)
        return items
    fields: dict[object, object] = {}
    done[id(node)] = fields
    for field in node.fields.values():
        fields[_plain(field.key, done)] = _plain(field.value, done)
    return fields
