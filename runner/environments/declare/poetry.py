"""Translates requirements of poetry and pipenv: ``^1.2``, ``~1.2``, tables with ``git``, ``path``, markers."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.environments.declare.requirements import Line

PART = re.compile(r"(?P<operator>\^|~=|~|===?|!=|>=|<=|>|<|=)?\s*v?(?P<version>\d[\w!+-]*(?:\.[\w!+-]+)*(?:\.\*)?|\*)")
SOURCES = ("git", "url", "path", "file")
MARKERS = ("sys_platform", "platform_system", "platform_machine", "python_version", "os_name", "implementation_name")
"""Keys of a Pipfile package that are environment markers; the value holds operator and operand."""

Table = Mapping[str, Any]


def poetry_lines(dependencies: Table) -> Iterator[Line]:
    """Yield the requirement lines of a table of dependencies, except optional packages and Python itself."""
    for name, value in dependencies.items():
        if name.lower() != "python":
            for one in value if isinstance(value, list) else [value]:
                line = _line(name, one)
                if line:
                    yield Line(0, line)


def poetry_python(dependencies: Table) -> str | None:
    """Return the version rule for Python in a table of dependencies, or None."""
    asked = next((value for name, value in dependencies.items() if name.lower() == "python"), None)
    return translate(asked) or None if isinstance(asked, str) else None


def translate(constraint: str) -> str:
    """Return a constraint in pip's syntax. Of alternatives (``||``) the last is used, which is usually the newest."""
    last = re.split(r"\|\|?", constraint)[-1]
    found = [_clause(match["operator"] or "", match["version"]) for match in PART.finditer(last)]
    return ",".join(clause for clause in found if clause)


def _clause(operator: str, version: str) -> str:
    if version == "*":
        return ""
    if operator == "^":
        return f">={version},<{_above(version, _caret(version))}"
    if operator == "~":
        return f">={version},<{_above(version, min(2, len(_numbers(version))))}"
    return f"{'==' if operator in ('', '=') else operator}{version}"


def _numbers(version: str) -> list[int]:
    release = re.match(r"\d+(?:\.\d+)*", version)
    return [int(number) for number in release[0].split(".")] if release else [0]


def _caret(version: str) -> int:
    """Return how many numbers a caret constraint fixes: those up to the first non-zero one."""
    numbers = _numbers(version)
    return next((position for position, number in enumerate(numbers, 1) if number), len(numbers))


def _above(version: str, kept: int) -> str:
    numbers = _numbers(version)[:kept]
    return ".".join(str(number) for number in (*numbers[:-1], numbers[-1] + 1))


def _line(name: str, value: object) -> str | None:
    if isinstance(value, str):
        return f"{name}{translate(value)}"
    if not isinstance(value, Mapping) or value.get("optional"):
        return None
    extras = f"[{','.join(value['extras'])}]" if value.get("extras") else ""
    marker = _marker(value)
    if source := next((key for key in SOURCES if key in value), None):
        return _direct(source, value, f"{name}{extras}", marker)
    return f"{name}{extras}{translate(str(value.get('version', '*')))}{marker}"


def _direct(source: str, value: Table, named: str, marker: str) -> str:
    location = str(value[source])
    if source in ("path", "file") and "://" not in location:
        extras = named.partition("[")[1] + named.partition("[")[2]
        relative = location if location.startswith((".", "/")) else f"./{location}"
        return f"{'-e ' if value.get('editable') or value.get('develop') else ''}{relative}{extras}"
    if source != "git":
        return f"{named} @ {location}{marker}"
    ref = next((str(value[key]) for key in ("rev", "ref", "tag", "branch") if value.get(key)), None)
    folder = f"#subdirectory={value['subdirectory']}" if value.get("subdirectory") else ""
    return f"{named} @ git+{location}{f'@{ref}' if ref else ''}{folder}{marker}"


def _marker(value: Table) -> str:
    python = translate(str(value.get("python", "*")))
    clauses = [re.sub(r"^([<>=!~]+)(.*)$", r"python_version \1 '\2'", part) for part in python.split(",") if part]
    written = value.get("markers")
    parts = [f"({written})"] if written else []
    parts += [f"{key} {value[key]}" for key in MARKERS if key in value]
    return f" ; {' and '.join([*parts, *clauses])}" if parts or clauses else ""
