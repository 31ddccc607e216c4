"""Parses one script for its imports, URLs and absolute paths, without executing it."""

import ast
import re
from collections.abc import Iterator

from msgspec import Struct

from runner.base.foreign_text import LARGEST_SCRIPT, ForeignTextError, parse_python
from runner.urls import without_credentials

IMPORT_LINE = r"(?:import|from)\s+(?P<name>[A-Za-z_]\w*)"
URL = r"(?:https?|ftp|s3|gs|hdfs|dbfs|abfss?|postgresql|mysql)(?:\+\w+)?://[^\s'\"]+"
FOREIGN_PATH = r"[A-Za-z]:[\\/]\w.*|/(?:home|Users|Volumes|media|content|root)/\w.*|\\\\\w+\\\w.*"
ABSOLUTE_PATH = r"(?=.{1,4096}\Z)/[^/\n]+/[^\n]*"
TRACKING_CALLS = frozenset({"set_tracking_uri", "set_registry_uri"})
FAILED_IMPORT = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
DAGSHUB = "DagsHub"


class SourcePosition(Struct, frozen=True, array_like=True):
    """A text in a script with its line number, counted from 1."""

    text: str
    line: int


class Script(Struct, frozen=True, kw_only=True):
    """The result of parsing a script.

    ``imports`` are the dotted names of required modules, ``guarded`` those of optional ones; relative imports keep
    their dots. ``tracking`` are tracking URIs, ``experiments`` the experiments that it sets, ``urls`` and ``paths``
    other URLs and absolute paths in its text.
    """

    path: str
    imports: tuple[SourcePosition, ...] = ()
    guarded: tuple[SourcePosition, ...] = ()
    tracking: tuple[SourcePosition, ...] = ()
    tracking_names: tuple[SourcePosition, ...] = ()
    """Names of options or variables with the tracking URI, if the URI itself is not in the script."""
    experiments: tuple[SourcePosition, ...] = ()
    urls: tuple[SourcePosition, ...] = ()
    paths: tuple[SourcePosition, ...] = ()


def read_script(path: str, text: str) -> Script:
    """Parse one script. If this Python can't parse its syntax, only lines that begin with an import are read."""
    try:
        tree = parse_python(text)
        reader = _Reader(tree)
        reader.read(tree, guarded=False)
    except (ForeignTextError, RecursionError):
        return Script(path=path, imports=tuple(_imports_by_line(text)))
    return Script(path=path, **{name: tuple(dict.fromkeys(positions)) for name, positions in reader.found.items()})


def _imports_by_line(text: str) -> Iterator[SourcePosition]:
    for number, line in enumerate(text[:LARGEST_SCRIPT].split("\n"), 1):
        if match := re.match(IMPORT_LINE, line):
            yield SourcePosition(match["name"], number)


class _Reader:
    """Collects the findings in one pass over a syntax tree."""

    def __init__(self, tree: ast.Module) -> None:
        names = ("imports", "guarded", "tracking", "tracking_names", "experiments", "urls", "paths")
        self.found: dict[str, list[SourcePosition]] = {name: [] for name in names}
        self._idle = frozenset(_idle_calls(tree, "MlflowClient"))
        self._assigned = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }

    def read(self, node: ast.AST, *, guarded: bool) -> None:
        """Read a node and its children."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._read_import(node, "guarded" if guarded else "imports")
        elif isinstance(node, ast.Call):
            self._read_call(node)
        elif isinstance(node, ast.Assign):
            self._read_assignment(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._read_text(node.value, node.lineno)
        for child, is_guarded in _children(node, guarded=guarded):
            self.read(child, guarded=is_guarded)

    def _read_import(self, node: ast.Import | ast.ImportFrom, kind: str) -> None:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = "." * node.level + (node.module or "")
            joint = "" if base.endswith(".") else "."
            names = [base] if node.module else []
            names += [f"{base}{joint}{alias.name}" for alias in node.names if node.level]
        self.found[kind] += [SourcePosition(name, node.lineno) for name in names]

    def _read_call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
        if (owner, name) == ("dagshub", "init"):
            self.found["tracking"].append(SourcePosition(DAGSHUB, node.lineno))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in TRACKING_CALLS:
            self._add_tracking(next(iter([*node.args, *given.values()]), None), node.lineno)
        elif name == "set_experiment":
            value = self._value(
                next(iter([*node.args, *(v for k, v in given.items() if k == "experiment_name")]), None)
            )
            self.found["experiments"] += [SourcePosition(value, node.lineno)] if value else []
        elif name == "MlflowClient" and node not in self._idle:
            self._add_tracking(next(iter([*node.args, *(v for k, v in given.items() if k == "tracking_uri")]), None))

    def _read_assignment(self, node: ast.Assign) -> None:
        for target in node.targets:
            key = target.slice if isinstance(target, ast.Subscript) else None
            if isinstance(key, ast.Constant) and key.value == "MLFLOW_TRACKING_URI":
                self._add_tracking(node.value)

    def _add_tracking(self, node: ast.AST | None, line: int = 0) -> None:
        value = self._value(node)
        if value:
            self.found["tracking"].append(
                SourcePosition(without_credentials(value), line or getattr(node, "lineno", 0))
            )
            return
        if isinstance(node, ast.Name) and node.id in self._assigned:
            self._add_names(self._assigned[node.id])
        self._add_names(node)

    def _add_names(self, node: ast.AST | None) -> None:
        """Record the name of a URI that is set elsewhere: ``args.uri``, ``uri``, ``config["uri"]``."""
        inner = getattr(node, "slice", None)
        key = inner.value if isinstance(inner, ast.Constant) else None
        name = getattr(node, "attr", None) or getattr(node, "id", None) or key
        if isinstance(name, str):
            self.found["tracking_names"].append(SourcePosition(name, getattr(node, "lineno", 0)))

    def _value(self, node: ast.AST | None) -> str | None:
        """Return the string value of an expression: a constant, a name of one, or the default of a variable."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self._constants.get(node.id)
        if isinstance(node, ast.Call) and len(node.args) == 2 and getattr(node.func, "attr", "") in ("get", "getenv"):  # noqa: PLR2004
            first = node.args[0]
            ours = isinstance(first, ast.Constant) and first.value == "MLFLOW_TRACKING_URI"
            return None if ours else self._value(node.args[1])
        return None

    def _read_text(self, text: str, line: int) -> None:
        if re.fullmatch(URL, text):
            self.found["urls"].append(SourcePosition(without_credentials(text), line))
        elif re.fullmatch(FOREIGN_PATH, text) or re.fullmatch(ABSOLUTE_PATH, text):
            self.found["paths"].append(SourcePosition(text, line))


def _idle_calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a class whose object is never used, so that its tracking URI has no effect."""
    nodes = list(ast.walk(tree))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    for node in nodes:
        call = node.value if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) else None
        if not isinstance(call, ast.Call) or name not in (getattr(call.func, "id", ""), getattr(call.func, "attr", "")):
            continue
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names = [getattr(target, "id", None) or getattr(target, "attr", None) for target in targets]
        if not any(one is None or one in used for one in names):
            yield call


def _children(node: ast.AST, *, guarded: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the children of a node, except docstrings, and whether a failed import in them is handled."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        yield from ((child, guarded) for child in node.orelse)
        return
    if isinstance(node, ast.Try):
        caught = guarded or any(_catches_imports(handler) for handler in node.handlers)
        yield from ((child, caught) for child in (*node.body, *node.handlers))
        yield from ((child, guarded) for child in (*node.orelse, *node.finalbody))
        return
    yield from ((child, guarded) for child in ast.iter_child_nodes(node))


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(getattr(kind, "id", "") in FAILED_IMPORT for kind in kinds)
