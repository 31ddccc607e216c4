"""Reads requirements files in pip's format: https://pip.pypa.io/en/stable/reference/requirements-file-format/."""

import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from msgspec import Struct

from runner.base.foreign_text import ForeignTextError, decode_limited
from runner.environments.specs import LocalPackage, RequirementLines
from runner.errors import EnvironmentSetupError
from runner.model import ProjectFiles

COMMENT = re.compile(r"(^|\s)#.*$")
NESTED = re.compile(r"(?:-r|--requirement)(?:\s+|=|(?<=-r))(?P<path>.+)")
CONSTRAINT = re.compile(r"(?:-c|--constraint)(?:\s+|=|(?<=-c))(?P<path>.+)")
EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=|(?<=-e))(?P<what>.+)")
EXTRAS = re.compile(r"^(?P<path>.*?)\[(?P<extras>[^][]*)\]$")
NAMED_LOCAL = re.compile(r"^[\w.-]+\s*(?:\[(?P<extras>[^]]*)\])?\s*@\s*(?:file:)(?P<path>[^/;\s][^;\s]*)")
ARCHIVE = (".whl", ".tar.gz", ".zip", ".tar.bz2")
LONGEST_LINE = 2000
"""Most characters of a requirement without its hashes."""
MAX_LINES = 10_000
"""Most lines of a requirements file and of all files that it includes."""
MAX_DEPTH = 30
"""Most files that include each other in a chain."""
OPTIONS_KEPT = frozenset({
    *("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--pre"),
    *("--trusted-host", "--only-binary", "--no-binary"),
})  # fmt: skip
OPTIONS_WITHOUT_EFFECT = frozenset({
    *("--prefer-binary", "--require-hashes", "--use-feature", "--use-pep517", "--no-use-pep517"),
    *("--process-dependency-links", "--allow-external", "--allow-unverified", "--no-build-isolation"),
})  # fmt: skip


class Line(Struct, frozen=True):
    """A logical line with the number of its first physical line."""

    number: int
    text: str


def logical_lines(text: str) -> Iterator[Line]:
    """Yield the lines that are not empty, with continuation lines joined and comments removed."""
    start, parts = 0, list[str]()
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        if not parts and not raw.strip():
            continue
        line = "" if raw.lstrip().startswith("#") else COMMENT.sub("", raw)
        start = start if parts else number
        if line.endswith("\\"):
            parts.append(line[:-1].strip())
            continue
        parts.append(line.strip())
        joined = " ".join(part for part in parts if part)
        parts = []
        if joined:
            yield Line(start, joined)


class RequirementReader(Struct, frozen=True):
    """Reads requirement lines and the files that they include into one collection."""

    files: ProjectFiles
    lines: RequirementLines

    def read_lines(self, source: Iterable[Line], file: str, folders: tuple[str, ...]) -> None:
        """Read the lines of a file. Paths in them are tried relative to each of the folders in turn."""
        for line in source:
            with _at_line(file, line):
                for part in logical_lines(line.text):  # a YAML or JSON string may have several
                    self._read_line(part.text, file, folders, 0)

    def read_file(self, path: str, *, depth: int = 0, constraint: bool = False) -> None:
        """Read a requirements file and what it includes; a file that was read already is not read again.

        Raises:
            EnvironmentSetupError: the file does not exist or is too large, files include each other in a chain that is
                too long, or a line can't be read.
        """
        content = self.files.read(path)
        if content is None:
            raise EnvironmentSetupError(
                f"the file '{path}' does not exist", hint="Paths are relative to the file that names them."
            )
        key = posixpath.normpath(path), constraint
        if key in self.lines.files_read:
            return
        self.lines.files_read.add(key)
        if depth > MAX_DEPTH:
            raise EnvironmentSetupError(f"more than {MAX_DEPTH} requirements files include each other in a chain")
        folders = (posixpath.dirname(path), "")
        for line in logical_lines(_text(content)):
            with _at_line(path, line):
                if constraint and not line.text.startswith("-") and len(line.text) <= LONGEST_LINE:
                    self._count()
                    self.lines.constraints.append(line.text)
                else:
                    self._read_line(line.text, path, folders, depth)

    def _count(self) -> None:
        self.lines.count += 1
        if self.lines.count > MAX_LINES:
            raise EnvironmentSetupError(f"there are more than {MAX_LINES:,} lines with requirements")

    def _read_line(self, text: str, file: str, folders: tuple[str, ...], depth: int) -> None:
        self._count()
        if len(text) > LONGEST_LINE and len(text.partition(" --hash=")[0]) > LONGEST_LINE:
            raise EnvironmentSetupError(
                f"'{text[:40]}…' has {len(text):,} characters, which is too long for a requirement"
            )
        if nested := NESTED.fullmatch(text):
            self.read_file(self._find_included(nested["path"], folders), depth=depth + 1)
        elif constraint := CONSTRAINT.fullmatch(text):
            self.read_file(self._find_included(constraint["path"], folders), depth=depth + 1, constraint=True)
        elif editable := EDITABLE.fullmatch(text):
            self._add_requirement(editable["what"].strip("\"' "), folders, editable=True)
        elif text.startswith("-"):
            self._add_option(text, file)
        else:
            self._add_requirement(text, folders)

    def _add_option(self, text: str, file: str) -> None:
        word = re.split(r"[\s=]", text, maxsplit=1)[0]
        if word in OPTIONS_KEPT:
            self.lines.options.append(text)
        elif word in OPTIONS_WITHOUT_EFFECT:
            self.lines.notices.append(f"{file}: the option {word} is ignored, it has no effect here")
        else:
            raise EnvironmentSetupError(f"the option {word} is not allowed in a requirements file")

    def _add_requirement(self, text: str, folders: tuple[str, ...], *, editable: bool = False) -> None:
        local = self._local_package(text, folders, editable=editable)
        if local:
            self.lines.local_packages.append(local)
        elif re.match(r"^(file:/|/|~|[A-Za-z]:[\\/])", text) or re.search(r"@\s*file:/", text):
            raise EnvironmentSetupError(
                f"'{text}' is a path that exists on one machine only",
                hint="Name the package with its version, or keep its source in the project and name it './path'.",
            )
        elif editable and "://" not in text and not text.startswith("git@"):
            raise EnvironmentSetupError(f"'-e {text}': the project has no such folder")
        else:
            self.lines.requirements.append(text)

    def _local_package(self, text: str, folders: tuple[str, ...], *, editable: bool) -> LocalPackage | None:
        if named := NAMED_LOCAL.match(text):
            path, extras = named["path"], named["extras"] or ""
        else:
            text = re.split(r"\s+[;#]|\s--", text, maxsplit=1)[0].strip()
            match = EXTRAS.fullmatch(text)
            path, extras = (match["path"], match["extras"]) if match else (text, "")
            path = path.removeprefix("file:") if not path.startswith("file:/") else path
        if not (editable or named or path in (".", "..") or path.startswith(("./", "../")) or path.endswith(ARCHIVE)):
            return None
        if "://" in path or path.startswith(("/", "git@")):
            return None
        found = self.find(path, folders)
        if not (self.files.names("" if found == "." else found) or self.files.read(found) is not None):
            raise EnvironmentSetupError(f"'{text}' names a package in the project, but '{found}' does not exist")
        split = tuple(extra.strip() for extra in extras.split(",") if extra.strip())
        return LocalPackage(path=found, extras=split, editable=editable)

    def _find_included(self, path: str, folders: tuple[str, ...]) -> str:
        """Return the path of an included file.

        Raises:
            EnvironmentSetupError: it is at an address, so its content may change.
        """
        if "://" in path:
            raise EnvironmentSetupError(
                f"a requirements file at an address is not read: {path}",
                hint="Store the file in the project.",
            )
        return self.find(path, folders)

    def find(self, path: str, folders: tuple[str, ...]) -> str:
        """Return the path relative to the project folder: in the first folder that has it, else in the first one."""
        plain = path.strip("\"' ").replace("\\", "/").rstrip("/") or "."
        candidates = [posixpath.normpath(posixpath.join(folder, plain)) for folder in folders]
        return next(filter(partial(_exists, self.files), candidates), candidates[0])


def _text(content: bytes) -> str:
    try:
        return decode_limited(content)
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"the file can't be read: {error}") from None


@contextmanager
def _at_line(file: str, line: Line) -> Iterator[None]:
    """Set the context of an error to file and line, unless it has a context."""
    try:
        yield
    except EnvironmentSetupError as error:
        error.context = error.context or f"{file}, line {line.number}"
        raise


def _exists(files: ProjectFiles, path: str) -> bool:
    return bool(files.names("" if path == "." else path)) or files.read(path) is not None
