"""Adds packages to the file that declares an environment, and removes them; all other bytes stay as they are.

Lines are edited as text. Each edit is proven by reading the result: it must declare what was declared before, except
for the change.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from runner.base.package_names import canonical_name
from runner.environments.declare.declared_lines import YAML_KINDS, DeclaredLine, declared_lines
from runner.environments.declare.positions import Item, parse
from runner.environments.declare.requirement_line import name_of
from runner.environments.declare.requirements import NESTED, RequirementReader
from runner.environments.specs import PythonSpec, collect
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

ITEM = re.compile(r"(?P<dash>\s*-\s+)(?P<text>.*?)(?P<rest>\s+#.*)?")
REMARK = re.compile(r"\s+#.*$")
PIP = re.compile(r"\s*-\s+pip\s*:\s*(#.*)?")
FLOW = re.compile(r"(?P<head>[^\[#]*\[)(?P<body>(?:\"[^\"]*\"|'[^']*'|[^\[\]{}\"'#])*)(?P<rest>\]\s*(?:#.*)?)")
"""A list of YAML on one line, after a key."""
PART = re.compile(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+")
UNSAFE = re.compile(r"^[\s!&*?|>@`%#{}\[\],'\"-]|: |\s#|:$")
"""Text that YAML does not read as a plain scalar."""


class EditedFiles:
    """The files of a project with some replaced, before they are written."""

    def __init__(self, files: ProjectFiles, changed: Mapping[str, bytes]) -> None:
        self._files, self.changed = files, dict(changed)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""
        return self.changed[path] if path in self.changed else self._files.read(path)

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder."""
        new = {path for path in self.changed if folder == "" and "/" not in path}
        return tuple(sorted({*self._files.names(folder), *new}))


class FirstReadFiles:
    """The files of a project, each as it was when it was read first."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files
        self._read: dict[str, bytes | None] = {}

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""
        if path not in self._read:
            self._read[path] = self._files.read(path)
        return self._read[path]

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder."""
        return self._files.names(folder)

    def changed(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return which of these files have been read and are no longer the same."""
        return tuple(path for path in paths if path in self._read and self._files.read(path) != self._read[path])


class Edit(Struct, frozen=True, kw_only=True):
    """The changed files of a declaration, with one text for each change."""

    changed: dict[str, bytes]
    texts: tuple[str, ...]


class _File(Struct, kw_only=True):
    """A file while its lines are edited."""

    path: str
    lines: list[str]
    is_yaml: bool

    @property
    def end(self) -> str:
        """The line ending of the file."""
        return "\r\n" if any(line.endswith("\r\n") for line in self.lines) else "\n"

    def bare(self, number: int) -> str:
        """Return a line without its ending; numbers count from 1."""
        return self.lines[number - 1].rstrip("\r\n")

    def extent(self, number: int) -> int:
        """Return how many physical lines a requirement has."""
        count = 1
        while not self.is_yaml and number + count <= len(self.lines):
            if not REMARK.sub("", self.bare(number + count - 1)).endswith("\\"):
                break
            count += 1
        return count

    def change_flow(self, number: int, old: str | None, new: str | None) -> bool:
        """Replace, remove or append an item of a list that is on one line; return False if the line has none."""
        flow = FLOW.fullmatch(self.bare(number)) if self.is_yaml else None
        if flow is None:
            return False
        parts = [part.strip() for part in PART.findall(flow["body"]) if part.strip()]
        at = next((n for n, part in enumerate(parts) if part.strip("\"'") == old), len(parts))
        parts[at : at + 1] = [] if new is None else [json.dumps(new) if re.search(r"[^\w.<>=~ -]", new) else new]
        self.lines[number - 1] = f"{flow['head']}{', '.join(parts)}{flow['rest']}{self.end}"
        return True

    def replace(self, number: int, old: str, text: str) -> None:
        """Replace an item."""
        if self.change_flow(number, old, text):
            return
        count = self.extent(number)
        last = self.bare(number + count - 1)
        if self.is_yaml:
            item = ITEM.fullmatch(last)
            if item is None:
                raise edit_by_hand(self.path, number)
            new = f"{item['dash']}{_scalar(text)}{item['rest'] or ''}"
        else:
            remark = REMARK.search(last)
            indent = re.match(r"\s*", self.bare(number))
            new = f"{indent[0] if indent else ''}{text}{remark[0] if remark else ''}"
        self.lines[number - 1 : number - 1 + count] = [new + self.end]

    def remove(self, number: int, old: str | None = None) -> None:
        """Remove an item, or a line."""
        if old is not None and self.change_flow(number, old, None):
            return
        del self.lines[number - 1 : number - 1 + self.extent(number)]

    def insert(self, after: int, lines: Iterable[str]) -> None:
        """Insert lines after a line; 0 is the start of the file."""
        if after and after <= len(self.lines) and not self.lines[after - 1].endswith("\n"):
            self.lines[after - 1] += self.end
        self.lines[after:after] = [line + self.end for line in lines]

    @property
    def content(self) -> bytes:
        """The content as it is written."""
        return "".join(self.lines).encode()


def add_packages(spec: PythonSpec, files: ProjectFiles, requirements: Sequence[str]) -> Edit:
    """Declare requirements; one of a package that is declared already replaces its version.

    A bare name of a declared package changes nothing.

    Raises:
        EnvironmentSetupError: the file can't be changed so that it reads as intended.
    """
    texts: list[str] = []
    editor = _Editor(spec, files)
    for requirement in requirements:
        name = name_of(requirement) or ""
        known = editor.lines_of(name)
        if known and re.fullmatch(r"[\w.-]+", requirement):
            texts.append(f"{known[0].file}: '{known[0].text}' is there already")
        elif not known:
            target = editor.append(requirement)
            texts.append(f"{target}: '{requirement}' added")
        elif any(_same(line.text, requirement) for line in known):
            texts.append(f"{known[0].file}: '{requirement}' is there already")
        elif len(known) > 1:
            raise edit_by_hand(known[1].file, known[1].number, f"'{name}' is declared {len(known)} times")
        else:
            editor.replace(known[0], requirement)
            texts.append(f"{known[0].file}: '{known[0].text}' replaced by '{requirement}'")
    return Edit(changed=editor.changed, texts=tuple(texts))


def remove_packages(spec: PythonSpec, files: ProjectFiles, names: Sequence[str]) -> Edit:
    """Remove all lines that declare packages; names that are not declared have no effect.

    Raises:
        EnvironmentSetupError: the file can't be changed so that it reads as intended.
    """
    texts: list[str] = []
    editor = _Editor(spec, files)
    for name in names:
        while known := editor.lines_of(canonical_name(name)):
            editor.remove(known[0])
            texts.append(f"{known[0].file}: '{known[0].text}' removed")
    return Edit(changed=editor.changed, texts=tuple(texts))


def package_name(line: DeclaredLine) -> str | None:
    """Return the canonical name of the package of an item, None if it has none."""
    if not line.is_conda:
        return name_of(line.text)
    match = re.match(r"(?:[^\s:]+::)?([\w.-]+)", line.text)
    return canonical_name(match[1]) if match else None


class _Editor:
    """Edits one declaration step by step, and proves each step by reading the result."""

    def __init__(self, spec: PythonSpec, files: ProjectFiles) -> None:
        self._spec, self._original = spec, files
        self.changed: dict[str, bytes] = {}

    @property
    def _files(self) -> EditedFiles:
        return EditedFiles(self._original, self.changed)

    def lines_of(self, name: str) -> list[DeclaredLine]:
        """Return the items that declare a package."""
        return [line for line in declared_lines(self._spec, self._files) if package_name(line) == name]

    def replace(self, line: DeclaredLine, text: str) -> None:
        """Replace an item."""
        file = self._open(line.file)
        file.replace(line.number, line.text, text)
        self._save(file, (line.text,), (text,), line.number)

    def remove(self, line: DeclaredLine) -> None:
        """Remove an item, and with the last one conda's list for pip."""
        file = self._open(line.file)
        alone = [one for one in self._pip() if one.line != line.number] == [] and not line.is_conda
        file.remove(line.number, line.text)
        if alone and line.number > 1 and file.is_yaml and PIP.fullmatch(file.bare(line.number - 1)):
            file.remove(line.number - 1)
        self._save(file, (line.text,), (), line.number)

    def append(self, text: str) -> str:
        """Append an item and return the file that it is in."""
        path = self._target()
        file = self._open(path)
        added: tuple[str, ...] = (text,)
        if not file.is_yaml:
            file.insert(len(file.lines), [text])
        elif self._spec.kind is EnvironmentKind.CONDA_ENV:
            added = self._append_pip(file, text)
        else:
            self._append_item(file, text)
        self._save(file, (), added, len(file.lines))
        return path

    def _append_item(self, file: _File, text: str) -> None:
        items = self._items()
        if items:
            last = max(item.line for item in items)
            if not file.change_flow(last, None, text):
                file.insert(last, [f"{_dash(file, last)}{_scalar(text)}"])
            return
        key = next((n for n in range(1, len(file.lines) + 1) if re.match(r"dependencies\s*:", file.bare(n))), None)
        if key is None:
            file.insert(len(file.lines), ["dependencies:", f"  - {_scalar(text)}"])
            return
        file.lines[key - 1] = re.sub(r":\s*(\[\s*\])?", ":", file.bare(key), count=1).rstrip() + file.end
        file.insert(key, [f"  - {_scalar(text)}"])

    def _append_pip(self, file: _File, text: str) -> tuple[str, ...]:
        """Append to conda's list for pip and return the items that are new; without a list, one is added."""
        items = self._items()
        pip = self._pip()
        if pip:
            last = max(item.line for item in pip)
            file.insert(last, [f"{_dash(file, last)}{_scalar(text)}"])
            return (text,)
        if not items:
            raise edit_by_hand(file.path, 1, "it has no list of dependencies")
        last = max(item.line for item in items)
        dash = _dash(file, last)
        nested = f"{' ' * len(dash)}- {_scalar(text)}"
        has_pip = any(re.match(r"(?:\S+::)?pip\b(?![-_.])", item.text) for item in items if not item.is_nested)
        file.insert(last, [*([] if has_pip else [f"{dash}pip"]), f"{dash}pip:", nested])
        return (text,) if has_pip else ("pip", text)

    def _items(self) -> tuple[Item, ...]:
        path = self._spec.file or ""
        return parse(path, self._files.read(path) or b"").items("dependencies", [])

    def _pip(self) -> tuple[Item, ...]:
        if self._spec.kind is not EnvironmentKind.CONDA_ENV:
            return ()
        return next((item.nested for item in self._items() if item.is_nested and item.text == "pip"), ())

    def _target(self) -> str:
        """Return the file for a new line: an included requirements file if there is nothing else."""
        path = self._spec.file or ""
        if self._spec.kind is not EnvironmentKind.PYTHON_ENV:
            return path
        nested = [NESTED.fullmatch(item.text) for item in self._items()]
        if not (nested and nested[0] and all(nested)):
            return path
        folders = ("", posixpath.dirname(path))
        return RequirementReader(self._files, collect()).find(nested[0]["path"], folders)

    def _open(self, path: str) -> _File:
        content = self._files.read(path) or b""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise EnvironmentSetupError(f"{path} is not in UTF-8, so that it can't be edited", context=path) from None
        is_yaml = path == self._spec.file and self._spec.kind in YAML_KINDS
        return _File(path=path, lines=text.splitlines(keepends=True), is_yaml=is_yaml)

    def _save(self, file: _File, removed: tuple[str, ...], added: tuple[str, ...], number: int) -> None:
        """Keep an edit after a proof: the declaration has lost and gained nothing else."""
        before = Counter(line.text for line in declared_lines(self._spec, self._files))
        edited = EditedFiles(self._original, {**self.changed, file.path: file.content})
        try:
            after = Counter(line.text for line in declared_lines(self._spec, edited))
        except EnvironmentSetupError:
            raise edit_by_hand(file.path, number) from None
        if after != before - Counter(removed) + Counter(added):
            raise edit_by_hand(file.path, number)
        self.changed[file.path] = file.content


def _dash(file: _File, number: int) -> str:
    match = re.match(r"\s*-\s+", file.bare(number))
    if match is None:
        raise edit_by_hand(file.path, number)
    return match[0]


def _scalar(text: str) -> str:
    """Return text as YAML reads it back."""
    return json.dumps(text, ensure_ascii=False) if UNSAFE.search(text) else text


def _same(one: str, other: str) -> bool:
    return re.sub(r"\s", "", one) == re.sub(r"\s", "", other)


def edit_by_hand(
    path: str, number: int, why: str = "the list is not written with one item on each line"
) -> EnvironmentSetupError:
    """Return the error for a file that can't be edited line by line."""
    return EnvironmentSetupError(
        f"{path} can't be edited automatically: {why}",
        context=f"{path}, line {number}",
        hint="Nothing was changed. Edit the file by hand, then 'proj lock' updates its lock.",
    )
