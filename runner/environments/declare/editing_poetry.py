"""Adds packages to the ``[tool.poetry.dependencies]`` of a ``pyproject.toml``, and removes them."""

import json
import re
from collections.abc import Sequence
from typing import Any

from runner.base.foreign_text import ForeignTextError, parse_toml
from runner.base.package_names import canonical_name
from runner.environments.declare.editing import Edit, edit_by_hand
from runner.environments.declare.requirement_line import parse_line
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import ProjectFiles

FILE = "pyproject.toml"
HEAD = re.compile(r"\s*\[\s*tool\s*\.\s*poetry\s*\.\s*dependencies\s*\]\s*(#.*)?")
TABLE = re.compile(r"\s*\[")
KEY = re.compile(r"\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*=")
REMARK = re.compile(r"\s+#[^\"']*$")


def has_poetry(files: ProjectFiles) -> bool:
    """Return whether the dependencies of a project are declared in poetry's table.

    Raises:
        EnvironmentSetupError: the file is not TOML.
    """
    content = files.read(FILE)
    if content is None:
        return False
    tables = _parse(content)
    return "project" not in tables and "dependencies" in tables.get("tool", {}).get("poetry", {})


def add_to_poetry(files: ProjectFiles, requirements: Sequence[str]) -> Edit:
    """Declare requirements in poetry's table; one of a package that is declared replaces its version.

    Raises:
        UsageError: a requirement has a URL or a marker, which poetry writes in another way.
        EnvironmentSetupError: the file can't be edited line by line.
    """
    content, texts = files.read(FILE) or b"", list[str]()
    for requirement in requirements:
        parsed = parse_line(requirement)
        if parsed is None or ";" in parsed.rest:
            raise UsageError(f"'{requirement}' can't be written to poetry's table", hint=f"Edit {FILE} by hand.")
        known = _declared(content)
        name = next((one for one in known if canonical_name(one) == canonical_name(parsed.name)), None)
        if name and not (parsed.rest or parsed.extras):
            texts.append(f"{FILE}: '{name}' is there already")
            continue
        version = parsed.rest.strip("() ") or "*"
        extras = [one.strip() for one in parsed.extras.strip("[]").split(",") if one.strip()]
        value: object = {"version": version, "extras": extras} if extras else version
        content = _with_line(content, name or parsed.name, value)
        texts.append(f"{FILE}: '{requirement}' {'replaces what was declared' if name else 'added'}")
    return Edit(changed={FILE: content} if content != files.read(FILE) else {}, texts=tuple(texts))


def remove_from_poetry(files: ProjectFiles, names: Sequence[str]) -> Edit:
    """Remove packages from poetry's table.

    Raises:
        UsageError: a package is not declared.
        EnvironmentSetupError: the file can't be edited line by line.
    """
    content = files.read(FILE) or b""
    for package in names:
        known = [one for one in _declared(content) if canonical_name(one) == canonical_name(package)]
        if not known or canonical_name(package) == "python":
            raise UsageError(f"{FILE} does not declare '{package}'")
        content = _with_line(content, known[0], None)
    return Edit(changed={FILE: content}, texts=tuple(f"{FILE}: '{package}' removed" for package in names))


def _with_line(content: bytes, name: str, value: object) -> bytes:
    """Return the file with another value of a package, None to remove it; a comparison of both proves the edit."""
    lines = content.decode("utf-8").splitlines(keepends=True)
    head = next((number for number, line in enumerate(lines) if HEAD.fullmatch(line.rstrip("\r\n"))), None)
    if head is None:
        raise edit_by_hand(FILE, 1, "poetry's dependencies are not in a table of their own")
    end = next((number for number in range(head + 1, len(lines)) if TABLE.match(lines[number])), len(lines))
    newline = "\r\n" if lines[head].endswith("\r\n") else "\n"
    found = next((n for n in range(head + 1, end) if (key := KEY.match(lines[n])) and key["name"] == name), None)
    text = f"{name if re.fullmatch(r'[A-Za-z0-9_-]+', name) else json.dumps(name)} = {_toml(value)}"
    if found is not None:
        remark = REMARK.search(lines[found].rstrip("\r\n"))
        lines[found : found + 1] = [] if value is None else [f"{text}{remark[0] if remark else ''}{newline}"]
    else:
        last = max(n for n in range(head, end) if lines[n].strip())
        if not lines[last].endswith("\n"):
            lines[last] += newline
        lines[last + 1 : last + 1] = [text + newline]
    edited = "".join(lines).encode()
    wanted = _parse(content)
    dependencies: dict[str, Any] = wanted["tool"]["poetry"]["dependencies"]
    dependencies.pop(name, None)
    if value is not None:
        dependencies[name] = value
    try:
        is_proven = _parse(edited) == wanted
    except EnvironmentSetupError:
        is_proven = False
    if not is_proven:
        raise edit_by_hand(FILE, (found or head) + 1)
    return edited


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def _declared(content: bytes) -> tuple[str, ...]:
    return tuple(_parse(content)["tool"]["poetry"]["dependencies"])


def _parse(content: bytes) -> dict[str, Any]:
    try:
        return dict(parse_toml(content))
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"{FILE} can't be read: {error}", context=FILE) from None
