"""YAML 1.1 as PyYAML reads it, with the place of everything, for manifests and the files beside them."""

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.errors import ManifestError
from runner.manifest.faults import Place, printable
from runner.model import Fault

if TYPE_CHECKING:
    import yaml

LARGEST = 2_000_000
"""Bytes of a file, and characters of what its aliases expand to: enough for any manifest, too little for a bomb."""
SMALL = 100_000
DEEPEST = 100
MERGE = "tag:yaml.org,2002:merge"
VALUE = "tag:yaml.org,2002:value"
TEXT = "tag:yaml.org,2002:str"


class Kind(str, Enum):
    """The shapes of YAML."""

    SCALAR = "scalar"
    LIST = "list"
    MAPPING = "mapping"


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """A piece of a document with its place.

    ``source`` is the text of a scalar, ``value`` what YAML 1.1 makes of it; ``problem`` says why it makes nothing of
    it. Keys of ``fields`` are source texts; of duplicate keys the last one counts, and a nearer key beats a merged one.
    """

    kind: Kind
    place: Place
    source: str = ""
    value: object = None
    problem: str | None = None
    last_line: int = 0
    lone_equals: bool = False
    """It is a plain ``=``, for which PyYAML has no value."""
    items: list["Node"] = []
    fields: dict[str, "Field"] = {}
    duplicates: list["Node"] = []

    @property
    def is_null(self) -> bool:
        """Say whether this is nothing, as YAML writes it."""
        return self.kind is Kind.SCALAR and self.value is None and self.problem is None

    @property
    def is_text(self) -> bool:
        """Say whether this is a text, not a number, truth value or date."""
        return self.kind is Kind.SCALAR and isinstance(self.value, str) and self.problem is None

    def field(self, name: str) -> "Node | None":
        """Return the value of a key, or None where the key is absent or has no value."""
        found = self.fields.get(name)
        return None if found is None or found.value.is_null else found.value


class Field(Struct, frozen=True, eq=False):
    """A key of a mapping with its value."""

    key: Node
    value: Node


class DocumentError(ManifestError):
    """A file that is not the YAML it should be."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message, context=fault.place, hint=fault.hint)
        self.fault = fault


def load_document(file: str, content: bytes) -> Node | None:
    """Return the document in a YAML file, or None where there is nothing in it but comments.

    Raises:
        DocumentError: it is not YAML, has keys that are no texts, or is too large.
    """
    import yaml

    if len(content) > LARGEST:
        raise _refuse(file, f"'{file}' is too large: {len(content):,} bytes")
    # MLflow uses PyYAML's own scanner, which takes seconds for files that only libyaml can cope with.
    loader = yaml.SafeLoader if len(content) <= SMALL else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(content, Loader=loader)
        return None if root is None else _Conversion(file).convert(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else None
        raise _refuse(file, f"'{file}' is not valid YAML: {error.problem}", place, _mend(error, content)) from error
    except yaml.YAMLError as error:
        raise _refuse(file, f"'{file}' is not valid YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, RecursionError) as error:
        gist = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refuse(file, f"'{file}' is not valid YAML: {gist}") from error


def _refuse(file: str, message: str, place: Place | None = None, hint: str | None = None) -> DocumentError:
    line, column = (place.line, place.column) if place else (None, None)
    return DocumentError(Fault(message=printable(message), file=file, line=line, column=column, hint=hint))


def _mend(error: "yaml.MarkedYAMLError", content: bytes) -> str | None:
    """Return a hint for the faults that are seen in real files."""
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "YAML is indented with spaces, not with tabs"
    if b"{{" in content and b"}}" in content and "mapping values" not in problem:
        return "the file looks like a template: is {{ … }} still to be filled in?"
    if "mapping values are not allowed" in problem:
        return 'put quotes around a text that has ": " in it, or write it below a |'
    return None


class _Conversion:
    """Turns PyYAML's nodes into ours; aliases stay shared."""

    def __init__(self, file: str) -> None:
        import yaml

        self.file = file
        self.done: dict[int, Node] = {}
        self.weights: dict[int, int] = {}
        self.constructor = yaml.constructor.SafeConstructor()

    def convert(self, root: "yaml.Node") -> Node:
        self._weigh(root)
        return self._node(root)

    def _weigh(self, node: "yaml.Node", depth: int = 0) -> int:
        """Return how large a node is when aliases are written out; a node inside itself counts once."""
        if depth > DEEPEST:
            raise _refuse(self.file, f"'{self.file}' is nested too deeply", _place(node))
        if id(node) not in self.weights:
            self.weights[id(node)] = 1
            weight = 1
            if isinstance(node.value, str):
                weight += len(node.value)
            for child in () if isinstance(node.value, str) else node.value:
                parts = child if isinstance(child, tuple) else (child,)
                weight += sum(self._weigh(part, depth + 1) for part in parts)
            if weight > 2 * LARGEST:
                raise _refuse(self.file, f"'{self.file}' is too large when its aliases are written out", _place(node))
            self.weights[id(node)] = weight
        return self.weights[id(node)]

    def _node(self, node: "yaml.Node") -> Node:
        import yaml

        if id(node) in self.done:
            return self.done[id(node)]
        if isinstance(node, yaml.ScalarNode):
            self.done[id(node)] = self._scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            self.done[id(node)] = Node(kind=Kind.LIST, place=_place(node), items=[])
            self.done[id(node)].items.extend(self._node(child) for child in node.value)
        else:
            self.done[id(node)] = Node(kind=Kind.MAPPING, place=_place(node), fields={}, duplicates=[])
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
            place=_place(node),
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
            key = self._node(key_node)
            if key.kind is not Kind.SCALAR:
                hint = "the file looks like a template: is {{ … }} still to be filled in?"
                raise _refuse(self.file, f"'{self.file}' has a key that is not a text", key.place, hint)
            if key.source in own:
                mapping.duplicates.append(own[key.source].key)
            own[key.source] = Field(key, self._node(value_node))
        mapping.fields.update(merged)
        mapping.fields.update(own)

    def _merged(self, node: "yaml.Node") -> dict[str, Field]:
        """Return what ``<<`` brings in; of several mappings the first one wins."""
        source = self._node(node)
        sources = [source] if source.kind is Kind.MAPPING else source.items[::-1]
        fields: dict[str, Field] = {}
        if source.kind is Kind.SCALAR or any(item.kind is not Kind.MAPPING for item in sources):
            raise _refuse(self.file, f"'{self.file}' merges something that is not a mapping", source.place)
        for mapping in sources:
            fields.update(mapping.fields)
        return fields


def _place(node: "yaml.Node") -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def text_of(node: Node) -> str:
    """Return what MLflow makes of a value: ``str()`` of what YAML 1.1 reads, so ``010`` is 8 and ``yes`` is True."""
    return node.value if isinstance(node.value, str) else str(_plain(node, {}))


def problem_of(node: Node, seen: set[int] | None = None) -> str | None:
    """Return why YAML 1.1 can make nothing of a value or of a part of it, or None."""
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
