"""Parses untrusted YAML, TOML, JSON and Python text with limits on size and depth.

Every function here ends in bounded time and memory, whatever the text is, and raises `ForeignTextError` for text that
it refuses. A test in ``tests/documents/test_house_rules.py`` keeps parsers out of other modules.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import ast

    import yaml

Shape = TypeVar("Shape")

_LONGEST_NUMBER = 1000
"""Characters of a YAML number: converting a number takes time that grows with the square of its length."""
_NUMBER = re.compile(r"[-+0-9a-fA-FxXob_:.]+")
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:binary"})
_KEY_WORK = 5_000_000
"""Sum of the squared lengths of dotted TOML keys: the parser's time grows with the square of a key's length."""
_DOTTED = re.compile(r"\.[^\n\r={,.]*\.[^\n\r={,]*")
"""A part of a line that has two dots or more, and so may be a dotted key."""
_YAML_FAULTS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What PyYAML's constructors raise for values that do not fit their tag."""


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of an accepted text.

    ``size`` is in bytes of the file, ``depth`` in nested collections, ``nodes`` in values. ``expanded`` is in
    characters and values after each YAML alias is replaced by what it stands for.
    """

    size: int = 2_000_000
    depth: int = 100
    nodes: int = 100_000
    expanded: int = 4_000_000


SMALL = Limits()
"""Files that people write: manifests, environment files, parameters, settings."""
LARGE = Limits(size=16_000_000, nodes=1_000_000, expanded=64_000_000)
"""Files that programs write: locks, metrics."""
NOTEBOOK = Limits(size=64_000_000)
"""Notebooks; only their code is kept."""
LARGEST_SCRIPT = 1_000_000
"""Bytes of a Python file: its syntax tree takes about a hundred times as much memory."""


class Position(Struct, frozen=True):
    """A position in a file; lines and columns count from 1."""

    line: int
    column: int


class ForeignTextError(ValueError):
    """A text that is refused: ``problem`` without the name of the file, ``line`` and ``column`` from 1 if known."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column

    @property
    def location(self) -> str:
        """The position in the form that follows the name of a file: ``:3:7``, or empty."""
        return "".join(f":{number}" for number in (self.line, self.column) if number is not None)


def decode_text(content: bytes) -> str:
    """Return the text of a file from any machine: UTF-8, UTF-16 with or without byte order mark, else Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    low, high = content[:200:2], content[1:200:2]
    if high and 2 * max(low.count(0), high.count(0)) >= len(high):
        return content.decode("utf-16-le" if high.count(0) >= low.count(0) else "utf-16-be", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def decode_limited(content: bytes, limits: Limits = SMALL) -> str:
    """Return the text of a file that is not larger than agreed.

    Raises:
        ForeignTextError: it is too large.
    """
    _check_size(content, limits)
    return decode_text(content)


def read_limited(path: Path, limits: Limits) -> bytes:
    """Return the content of a file or of a pipe, up to a size limit.

    Raises:
        OSError: it can't be read.
        ForeignTextError: it is too large.
    """
    with path.open("rb") as file:
        content = file.read(limits.size + 1)
    _check_size(content, limits)
    return content


def parse_json(content: bytes | str, limits: Limits = SMALL, parse_int: Callable[[str], int] | None = None) -> Any:  # noqa: ANN401  JSON is of any type
    """Return the value in a JSON text; ``NaN`` and infinities are numbers, as in Python's own parser.

    ``parse_int`` reads whole numbers; without it one of more than 4300 digits makes the text invalid.

    Raises:
        ForeignTextError: it is not JSON, too large or nested too deeply.
    """
    import json

    _check_size(content, limits)
    text = content if isinstance(content, str) else decode_text(content)
    if sum(map(text.count, ",[{")) > limits.nodes:
        raise ForeignTextError(f"it has more than {limits.nodes:,} values")
    try:
        value = json.loads(text, parse_int=parse_int)
    except RecursionError:
        raise ForeignTextError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ForeignTextError(f"it is not valid JSON: {error.msg}", error.lineno, error.colno) from None
    except ValueError as error:
        raise ForeignTextError(f"it is not valid JSON: {error}") from None
    _check_depth(value, limits)
    return value


def parse_json_as(content: bytes | str, shape: type[Shape], limits: Limits = SMALL) -> Shape:
    """Return the parts of a JSON text that ``shape`` describes.

    Raises:
        ForeignTextError: it is not JSON, not of this shape, too large or nested too deeply.
    """
    _check_size(content, limits)
    try:
        return msgspec.json.decode(content, type=shape)
    except RecursionError:
        raise ForeignTextError("it is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ForeignTextError(f"it is not valid JSON: {error}") from None


def parse_toml(content: bytes | str, limits: Limits = LARGE) -> dict[str, Any]:
    """Return the tables in a TOML text.

    Raises:
        ForeignTextError: it is not TOML, too large, nested too deeply, or has keys of too many parts.
    """
    _check_size(content, limits)
    text = content if isinstance(content, str) else decode_text(content)
    if sum(match[0].count(".") ** 2 for match in _DOTTED.finditer(text)) > _KEY_WORK:
        raise ForeignTextError("its keys have too many parts")
    try:
        tables: dict[str, Any] = msgspec.toml.decode(text)
    except RecursionError:
        raise ForeignTextError("it is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ForeignTextError(f"it is not valid TOML: {error}") from None
    _check_depth(tables, limits)
    return tables


def parse_yaml(content: bytes | str, limits: Limits = SMALL) -> Any:  # noqa: ANN401  YAML is of any type
    """Return the value of a YAML text as plain Python data; None if the text is empty.

    Raises:
        ForeignTextError: it is not YAML, has tags of other types, contains itself, or exceeds a limit.
    """
    import yaml

    loader_type = _fast_loader()
    root, has_aliases = _compose(content, limits, loader_type)
    if root is None:
        return None
    if has_aliases and contains_itself(root):
        raise ForeignTextError("a value contains itself")
    try:
        return yaml.constructor.SafeConstructor().construct_document(root)
    except yaml.YAMLError as error:
        raise _yaml_error(error) from None
    except _YAML_FAULTS as error:
        raise ForeignTextError(f"a value can't be read: {error}") from None


def compose_yaml(content: bytes | str, limits: Limits = SMALL, *, like_mlflow: bool = False) -> "yaml.Node | None":
    """Return the nodes of a YAML text with their positions; an alias is the same object as its anchor.

    With ``like_mlflow`` small texts are read by PyYAML's own scanner, as MLflow does: it differs from libyaml in
    corners, and takes seconds for large texts.

    Raises:
        ForeignTextError: it is not YAML, or is larger or deeper than agreed.
    """
    import yaml

    is_small = len(content) <= _SLOW_SIZE
    return _compose(content, limits, yaml.SafeLoader if like_mlflow and is_small else _fast_loader())[0]


_SLOW_SIZE = 100_000
"""Maximum bytes for PyYAML's own scanner, which reads them in less than a second."""


def _fast_loader() -> "type[yaml.SafeLoader]":
    import yaml

    loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return loader


def _compose(content: bytes | str, limits: Limits, loader: "type[yaml.SafeLoader]") -> "tuple[yaml.Node | None, bool]":
    """Return the root node and whether the text has aliases."""
    import yaml

    _check_size(content, limits)
    text = content if isinstance(content, str) else decode_text(content)
    try:
        has_aliases = _scan(text, limits)
    except yaml.YAMLError as error:
        if loader is _fast_loader():
            raise _yaml_error(error) from None
        has_aliases = True  # the other scanner decides
    except ValueError as error:
        raise _named(error) from None
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        raise _yaml_error(error) from None
    except RecursionError:
        raise ForeignTextError("it is nested too deeply") from None
    except ValueError as error:
        raise _named(error) from None
    if root is not None and has_aliases:
        _Weight(limits).of(root)
    return root, has_aliases


def _named(error: ValueError) -> ForeignTextError:
    """Convert an error of PyYAML; the error for an escape of a nonexistent character has no position."""
    return error if isinstance(error, ForeignTextError) else ForeignTextError(f"it is not YAML: {error}")


def _scan(text: str, limits: Limits) -> bool:
    """Check depth and number of values in the stream of events, and return whether it has aliases.

    libyaml's scanner needs no stack, but composing nodes does: in C, where too deep nesting ends the process.
    """
    import yaml

    depth = nodes = 0
    has_aliases = False
    for event in yaml.parse(text, Loader=_fast_loader()):
        if isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if len(event.value) > _LONGEST_NUMBER and _is_number(event):
                raise _refused_at(event.start_mark, "a number is too long")
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            nodes += 1
            has_aliases = True
        if depth > limits.depth or nodes > limits.nodes:
            what = "it is nested too deeply" if depth > limits.depth else f"it has more than {limits.nodes:,} values"
            raise _refused_at(event.start_mark, what)
    return has_aliases


def _is_number(event: "yaml.ScalarEvent") -> bool:
    if event.tag is not None:
        return event.tag not in _TEXT_TAGS
    return bool(event.implicit[0]) and _NUMBER.fullmatch(event.value) is not None


def _yaml_error(error: Exception) -> ForeignTextError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or str(error).splitlines()[0])
    return _refused_at(mark, f"it is not YAML: {problem}")


def _refused_at(mark: Any, problem: str) -> ForeignTextError:  # noqa: ANN401  PyYAML has several kinds of marks
    return ForeignTextError(problem) if mark is None else ForeignTextError(problem, mark.line + 1, mark.column + 1)


class _Weight:
    """Computes the sizes of nodes with expanded aliases; a node inside itself counts once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[int, int] = {}

    def of(self, node: "yaml.Node", depth: int = 0) -> int:
        """Return the weight of a node.

        Raises:
            ForeignTextError: it is too large or too deep.
        """
        if depth > self._limits.depth:
            raise self._error("it is nested too deeply", node)
        known = self._known.get(id(node))
        if known is not None:
            return known
        self._known[id(node)] = 1
        weight = 1
        if isinstance(node.value, str):
            weight += len(node.value)
        for child in () if isinstance(node.value, str) else node.value:
            weight += sum(self.of(part, depth + 1) for part in (child if isinstance(child, tuple) else (child,)))
        if weight > self._limits.expanded:
            raise self._error("it is too large when its aliases are written out", node)
        self._known[id(node)] = weight
        return weight

    def _error(self, problem: str, node: "yaml.Node") -> ForeignTextError:
        return _refused_at(node.start_mark, problem)


def contains_itself(root: "yaml.Node") -> bool:
    """Return whether a node contains itself; the depth of ``root`` must be limited."""
    done: set[int] = set()
    path: set[int] = set()

    def leads_back(node: "yaml.Node") -> bool:
        if isinstance(node.value, str) or id(node) in done:
            return False
        if id(node) in path:
            return True
        path.add(id(node))
        parts = (part for child in node.value for part in (child if isinstance(child, tuple) else (child,)))
        found = any(leads_back(part) for part in parts)
        path.discard(id(node))
        done.add(id(node))
        return found

    return leads_back(root)


def parse_python(text: str) -> "ast.Module":
    """Return the syntax tree of a Python file.

    Raises:
        ForeignTextError: it is not of this Python's syntax, too large, or nested too deeply.
    """
    import ast
    import warnings

    if len(text) > LARGEST_SCRIPT:
        raise ForeignTextError(f"it is larger than {LARGEST_SCRIPT:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes are the author's affair
            return ast.parse(text)
    except SyntaxError as error:
        raise ForeignTextError(f"it is not valid Python: {error.msg}", error.lineno, error.offset) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ForeignTextError(f"it is not valid Python: {error or 'it is nested too deeply'}") from None


def _check_size(content: bytes | str, limits: Limits) -> None:
    if len(content) > limits.size:
        raise ForeignTextError(f"it is too large: more than {limits.size:,} bytes")


def _check_depth(value: object, limits: Limits) -> None:
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(limits.depth):
        children = (child for one in level for child in (one.values() if isinstance(one, dict) else one))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise ForeignTextError("it is nested too deeply")
