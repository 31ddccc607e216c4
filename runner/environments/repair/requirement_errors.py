"""Names the declared lines that a failed resolution is about, and the names that were probably meant."""

import posixpath
import re
from collections.abc import Iterator

from msgspec import Struct

from runner.base.masking import Masker
from runner.base.package_names import canonical_name
from runner.base.suggestions import nearest
from runner.environments.declare.requirements import COMMENT, CONSTRAINT, NESTED
from runner.environments.model import PythonRequest
from runner.environments.repair.import_names import RENAMED, known_packages
from runner.errors import EnvironmentSetupError
from runner.urls import without_credentials

_NAME = r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]\s]*\])?"
MENTIONED = (
    rf"{_NAME} was not found in the package registry",
    rf"there (?:is|are) no versions? of {_NAME}",
    rf"\bonly {_NAME}\S* is available",
    rf"\byou require {_NAME}",
    rf"\band {_NAME}(?:[=<>~!]=?\S+)?, (?:we can conclude|which are incompatible)",
    rf"Failed to (?:build|download|download and build|fetch) `?{_NAME}",
    rf"No matching distribution found for {_NAME}",
    rf"Distribution not found at: \S*/{_NAME}",
)
"""How uv and pip name a package in their errors."""
UNKNOWN = (MENTIONED[0], rf"there are no versions of {_NAME}\b")
TEMPORARY = r"`?(?:[^\s`]*/)?proj-\w{8}/(?P<file>[\w.-]+)`?(?: at position \d+)?"
"""A path of the temporary file from which uv reads the requirements."""
MAX_FILES = 30
"""Files that include each other that are searched."""
MAX_LINES = 5
"""Lines that an error names."""
MAX_TEXT = 160
"""Characters of a line that are shown."""


class DeclaredLine(Struct, frozen=True):
    """A line of a declared file, without its comment."""

    file: str
    number: int
    text: str


def explain_unresolved(error: EnvironmentSetupError, request: PythonRequest) -> None:
    """Add file and line of the requirements that an error names to it, and names that were probably meant."""
    message = error.message
    names = {canonical_name(name) for pattern in MENTIONED for name in _names(pattern, message)}
    lines = tuple(_declared_lines(request))
    found = [line for line in lines if _is_about(line, names, message)][:MAX_LINES]
    shown = "\n".join(f"{one.file}, line {one.number}: {_shown(one.text)}" for one in found)
    error.context = "\n".join(part for part in (shown, error.context) if part) or None
    error.message = _without_temporary_paths(message, request)
    error.args = (error.message,)
    meant = _meant(message, [canonical_name(line.text) for line in lines])
    if meant:
        error.hint = f"did you mean {meant}? {error.hint or ''}".strip()


def _names(pattern: str, message: str) -> Iterator[str]:
    return (match["name"].rstrip(".") for match in re.finditer(pattern, message))


def _declared_lines(request: PythonRequest) -> Iterator[DeclaredLine]:
    """Yield the lines of the declared file and of the requirements files that it includes."""
    waiting, seen = [request.spec.file] if request.spec.file else [], set[str]()
    while waiting and len(seen) < MAX_FILES:
        file = waiting.pop(0)
        content = None if file in seen or request.files is None else request.files.read(file)
        seen.add(file)
        if content is None:
            continue
        for number, raw in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            text = COMMENT.sub("", raw).strip().removeprefix("- ").strip().strip("\"',")
            nested = NESTED.match(text) or CONSTRAINT.match(text)
            if nested:
                waiting.append(posixpath.normpath(posixpath.join(posixpath.dirname(file), nested["path"].strip())))
            elif text:
                yield DeclaredLine(file, number, text)


def _is_about(line: DeclaredLine, names: set[str], message: str) -> bool:
    """Return whether a line requires one of the packages, or is quoted in the message."""
    # In TOML a requirement may follow a key: `dependencies = ["numpy==1.0"]`.
    for found in re.finditer(r"(?:^|[\"'\[,]\s*|=\s*[\"'\[]+)([A-Za-z0-9][\w.-]*)(?=$|[\s\"'=<>~!;@\[,\]])", line.text):
        if canonical_name(found[1]) in names:
            return True
    is_requirement = len(line.text) > len("a==1") and re.match(r"[A-Za-z0-9][\w.-]*\s*[=<>~!;@\[]", line.text)
    return bool(is_requirement) and any(line.text == quoted.strip() for quoted in message.splitlines())


def _shown(text: str) -> str:
    shown = Masker().text(without_credentials(text))
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…"


def _without_temporary_paths(message: str, request: PythonRequest) -> str:
    """Return a message with the declared file in the place of files that only existed while uv ran."""
    declared = request.spec.file or "the requirements of the project"
    message = re.sub(TEMPORARY, declared, message)
    for folder in ("cache/completed/", "cache/"):
        message = message.replace(f"file://{request.home.root}/{folder}", "").replace(
            f"{request.home.root}/{folder}", ""
        )
    return message


def _meant(message: str, declared: list[str]) -> str | None:
    """Return the names that were probably meant by those that the index does not have."""
    unknown = dict.fromkeys(canonical_name(name) for pattern in UNKNOWN for name in _names(pattern, message))
    known = [name for name in known_packages() if name not in unknown]
    found = [RENAMED.get(name) or nearest(name, known) for name in unknown if name in " ".join(declared)]
    return " and ".join(f"'{name}'" for name in found if name) or None
