"""Reads the Python packages that a Dockerfile installs: the version of the base image and the pip and conda lines."""

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping

from msgspec import structs

from runner.analysis.scripts import above
from runner.base.foreign_text import ForeignTextError, Limits, decode_limited
from runner.environments.declare.requirements import Line, RequirementReader
from runner.environments.specs import PythonSpec, collect, specify
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

NAME = re.compile(r"(.*[._-])?(docker|container)file([._-].*)?", re.IGNORECASE)
FOLDERS = ("docker", ".docker", "Docker")
FROM_PYTHON = re.compile(
    r"^FROM\s+(?:--\S+\s+)?(?:\S+/)?python:(?P<version>\d+(?:\.\d+)*)", re.IGNORECASE | re.MULTILINE
)
ARGUMENT = re.compile(r"(?:ARG|ENV)\s+(?P<name>\w+)(?:=|\s+)(?P<value>\S+)")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
RUN = re.compile(r"^RUN\s+(?P<command>.*)$", re.MULTILINE | re.IGNORECASE)
INSTALLER = re.compile(r"(?:\bpip[\d.]*|\buv\s+pip|\bconda|\bmamba|\bmicromamba)\s")
INSTALL = re.compile(r"(?<=\s)install\s+(?P<words>.*)")
LIMITS = Limits(size=200_000)
MAX_FILES = 20
"""Most Dockerfiles of a repository that are read."""
LONGEST_LINE = 20_000
"""Most characters of an instruction."""
LONGEST_VALUE = 200
"""Most characters of an argument; a value may repeat other arguments."""
MAX_TAILS = 12
"""Most parts at the end of a path in the image that are searched in the project."""
TAKES_VALUE = frozenset({
    *("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--timeout", "--retries"),
    *("-t", "--target", "--prefix", "--root", "--cache-dir", "--upgrade-strategy", "-c", "--channel", "-n", "--name"),
    *("-p", "--proxy", "--python"),
})  # fmt: skip
REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,. -]+\])?\s*([=<>!~].*)?")
OTHERS_THAN_PYTHON = frozenset({"conda", "mamba", "pip", "setuptools", "wheel", "python"})


def find_dockerfiles(files: ProjectFiles) -> tuple[str, ...]:
    """Return the Dockerfiles of the project folder and of the folders above it."""
    found = []
    for top in above(files):
        for folder in (top, *(posixpath.join(top, name) for name in FOLDERS)):
            names = [name for name in files.names(folder) if NAME.fullmatch(name)]
            found += [posixpath.join(folder, name) for name in sorted(names, key=lambda name: (len(name), name))]
    return tuple(found[:MAX_FILES])


def read_dockerfile(path: str, files: ProjectFiles) -> PythonSpec:
    """Return the spec of the Python packages that a Dockerfile installs; lines that can't be parsed are skipped."""
    lines = collect()
    try:
        text = decode_limited(files.read(path) or b"", LIMITS)
    except ForeignTextError as error:
        return PythonSpec(notices=(f"{path} is not read: {error}",))
    text = _with_values(text)
    folder = posixpath.dirname(path)
    for word, is_file in _installed(text):
        _add(word, RequirementReader(files, lines), path, (folder, "", ".."), is_file=is_file)
    python = FROM_PYTHON.search(text)
    spec = specify(EnvironmentKind.NONE, None, lines, python=python["version"] if python else None)
    return structs.replace(spec, notices=tuple(dict.fromkeys(spec.notices)))


def _with_values(text: str) -> str:
    """Return the instructions, each on one line, with the values that arguments have there."""
    text = re.sub(r"(?m)^[ \t]*#.*\n", "", text)
    text = re.sub(r"\\[ \t]*\r?\n", " ", text)
    values: dict[str, str] = {}
    lines: list[str] = []
    space = 10 * LIMITS.size
    for line in text.splitlines():
        full = line if "$" not in line or len(line) > LONGEST_LINE else _replace(line, values)
        space -= len(full)
        if space < 0 or len(full) > LONGEST_LINE:
            continue
        if match := ARGUMENT.match(full):
            values[match["name"]] = match["value"].strip("\"'")[:LONGEST_VALUE]
        lines.append(full)
    return "\n".join(lines)


def _replace(line: str, values: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), line)


def _add(word: str, reader: RequirementReader, path: str, folders: tuple[str, ...], *, is_file: bool) -> None:
    try:
        if is_file:
            paths = (posixpath.normpath(posixpath.join(folder, name)) for folder in folders for name in _tails(word))
            found = next((candidate for candidate in paths if reader.files.read(candidate) is not None), None)
            if found:
                reader.read_file(found)
        else:
            reader.read_lines([Line(0, word)], path, folders)
    except EnvironmentSetupError as error:
        reader.lines.notices.append(f"{path}: '{word}' is skipped: {error.message}")


def _tails(path: str) -> Iterator[str]:
    """Yield the possible project paths for a path in the image: ``app/req/a.txt``, ``req/a.txt``, ``a.txt``."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    yield from ("/".join(parts[start:]) for start in range(max(0, len(parts) - MAX_TAILS), len(parts)))


def _installed(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each installed requirement with False, and each requirements file with True."""
    for run in RUN.finditer(text):
        for part in re.split(r"&&|;|\|\|", run["command"]):
            tool = INSTALLER.search(part)
            match = INSTALL.search(part, tool.end() - 1) if tool else None
            if match and not re.search(r"\bapt(-get)?\b", part):
                yield from _words(match["words"])


def _words(text: str) -> Iterator[tuple[str, bool]]:
    try:
        words = iter(shlex.split(text))
    except ValueError:
        return
    for word in words:
        option, equals, value = word.partition("=")
        if option in ("-r", "--requirement", "--file"):
            yield value if equals else next(words, ""), True
        elif word.startswith("-r") and len(word) > 2:  # noqa: PLR2004
            yield word[2:], True
        elif option in TAKES_VALUE and not equals:
            next(words, None)
        elif REQUIREMENT.fullmatch(word) and re.split(r"[=<>!~\[]", word)[0].lower() not in OTHERS_THAN_PYTHON:
            yield re.sub(r"^([\w.-]+)=(\d[^=]*)$", r"\1==\2", word), False
