"""Reads requirements from the files of packaging tools: pyproject.toml, Pipfile, setup.cfg, setup.py.

No code in these files is executed. Versions in the lock of poetry or pipenv become constraints.
"""

import ast
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from runner.base.foreign_text import (
    LARGE,
    SMALL,
    ForeignTextError,
    decode_limited,
    parse_json,
    parse_python,
    parse_toml,
)
from runner.base.package_names import canonical_name
from runner.environments.declare.poetry import poetry_lines, poetry_python
from runner.environments.declare.requirements import Line, RequirementReader
from runner.environments.specs import PythonSpec, collect, specify
from runner.environments.version_rules import parse_rule
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

MAX_VARIABLES = 5
"""Longest chain of variables that is followed in a setup.py."""

Table = Mapping[str, Any]


class _Metadata(msgspec.Struct, frozen=True):
    """The content of one file: requirement lines, the version rule for Python, and versions from the lock beside it."""

    lines: tuple[Line, ...] = ()
    python: str | None = None
    bounds: tuple[str, ...] = ()


def read_metadata(path: str, files: ProjectFiles) -> PythonSpec | None:
    """Return the spec in a file of a packaging tool, or None if the file is empty or can't be read."""
    content = files.read(path)
    reader = READERS.get(posixpath.basename(path))
    if content is None or reader is None:
        return None
    lines = collect()
    try:
        found = reader(
            decode_limited(content, LARGE if path.endswith(".lock") else SMALL), posixpath.dirname(path), files
        )
        RequirementReader(files, lines).read_lines(found.lines, path, (posixpath.dirname(path), ""))
        parse_rule(found.python)
    except (EnvironmentSetupError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    lines.constraints += found.bounds
    spec = specify(EnvironmentKind.NONE, path, lines, python=found.python)
    return None if spec.is_empty else spec


def _pyproject(text: str, folder: str, files: ProjectFiles) -> _Metadata:
    tables: Table = parse_toml(text)
    project: Table = tables.get("project", {})
    poetry: Table = tables.get("tool", {}).get("poetry", {})
    own: Table = poetry.get("dependencies", {})
    standard = [Line(0, line) for line in project.get("dependencies", ())]
    return _Metadata(
        lines=(*standard, *(() if standard else poetry_lines(own))),
        python=project.get("requires-python") or poetry_python(own),
        bounds=tuple(_poetry_lock(posixpath.join(folder, "poetry.lock"), files)) if poetry else (),
    )


def _poetry_lock(path: str, files: ProjectFiles) -> Iterator[str]:
    """Yield the versions in poetry's lock. A package with several versions gets no constraint."""
    packages: list[Table] = parse_toml(files.read(path) or b"").get("package", [])
    found: dict[str, list[str]] = {}
    for package in packages:
        if "source" not in package or package["source"].get("type") == "legacy":  # that is another index
            found.setdefault(canonical_name(package["name"]), []).append(package["version"])
    yield from (f"{name}=={versions[0]}" for name, versions in found.items() if len(versions) == 1)


def _pipfile(text: str, folder: str, files: ProjectFiles) -> _Metadata:
    tables: Table = parse_toml(text)
    requires: Table = tables.get("requires", {})
    locked = _lock_of_pipenv(posixpath.join(folder, "Pipfile.lock"), files)
    return _Metadata(
        lines=tuple(poetry_lines(tables.get("packages", {}))),
        python=requires.get("python_full_version") or requires.get("python_version"),
        bounds=tuple(f"{name}{entry['version']}" for name, entry in locked.items() if "version" in entry),
    )


def _pipfile_lock(text: str, folder: str, files: ProjectFiles) -> _Metadata:
    requires: Table = _object(text).get("_meta", {}).get("requires", {})
    return _Metadata(
        lines=tuple(poetry_lines(_lock_of_pipenv(posixpath.join(folder, "Pipfile.lock"), files))),
        python=requires.get("python_full_version") or requires.get("python_version"),
    )


def _lock_of_pipenv(path: str, files: ProjectFiles) -> Table:
    packages: Table = _object(files.read(path) or b"{}").get("default", {})
    return packages


def _object(content: str | bytes) -> Table:
    found = parse_json(content, LARGE)
    if not isinstance(found, dict):
        raise ForeignTextError("the top level is not a JSON object")
    return found


_MAX_SETUP_LINES = 2000
"""Most lines of a setup.cfg: the time that `configparser` takes grows with the square of the number of faulty lines."""


def _setup_cfg(text: str, folder: str, files: ProjectFiles) -> _Metadata:
    del folder, files
    from configparser import ConfigParser, Error

    if text.count("\n") > _MAX_SETUP_LINES:
        raise ValueError(f"it has more than {_MAX_SETUP_LINES:,} lines")
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except Error as error:
        raise ValueError(str(error)) from error
    found = parser.get("options", "install_requires", fallback="")
    if found.strip().startswith("file:"):
        raise ValueError("the requirements are in another file")
    lines = found.splitlines() if "\n" in found else found.split(";")
    python = parser.get("options", "python_requires", fallback="").strip()
    return _Metadata(lines=tuple(Line(0, line.strip()) for line in lines if line.strip()), python=python or None)


def _setup_py(text: str, folder: str, files: ProjectFiles) -> _Metadata:
    del folder, files
    tree = parse_python(text)
    names = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        called = getattr(node, "func", None)
        if isinstance(node, ast.Call) and "setup" in (getattr(called, "attr", ""), getattr(called, "id", "")):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            texts = _texts(given.get("install_requires"), names)
            python = given.get("python_requires")
            lines = [Line(0, line.strip()) for text in texts for line in text.splitlines() if line.strip()]
            return _Metadata(
                lines=tuple(lines), python="".join(_texts(python, names)) if isinstance(python, ast.Constant) else None
            )
    return _Metadata()


def _texts(node: ast.AST | None, names: Mapping[str, ast.AST], depth: int = 0) -> list[str]:
    """Return the strings of an expression: constants, lists of constants, their sums, and variables that hold these.

    Raises:
        ValueError: the value is computed at run time.
    """
    if node is None:
        return []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [text for item in node.elts for text in _texts(item, names, depth)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_texts(node.left, names, depth), *_texts(node.right, names, depth)]
    if isinstance(node, ast.Name) and node.id in names and depth < MAX_VARIABLES:
        return _texts(names[node.id], names, depth + 1)
    raise ValueError("the value is computed at run time")


READERS: Mapping[str, Callable[[str, str, ProjectFiles], _Metadata]] = {
    "pyproject.toml": _pyproject,
    "Pipfile": _pipfile,
    "Pipfile.lock": _pipfile_lock,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
}
"""The reader of each file, the most reliable file first."""
