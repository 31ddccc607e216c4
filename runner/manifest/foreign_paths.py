"""Maps absolute paths of the author's machine to files and folders of the repository."""

import os
import posixpath
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from runner.analysis.script_reader import FOREIGN_PATH
from runner.analysis.scripts import Scripts, above
from runner.base.masking import is_secret
from runner.model import Parameter, ProjectFiles, ValueSource

_SEPARATORS = re.compile(r"[\\/]+")


class PathReplacement(Struct, frozen=True, kw_only=True):
    """A path that does not exist on this machine, and its replacement relative to the project folder."""

    path: str
    file: str
    where: str

    @property
    def text(self) -> str:
        """The recorded text of the repair."""
        return f"'{self.path}' ({self.where}) does not exist on this machine: '{self.file}' is read instead"


def find_tail(path: str, files: ProjectFiles) -> str | None:
    """Return the file or folder of the repository that matches the longest end of a path."""
    parts = [part for part in _SEPARATORS.split(path) if part not in ("", ".")]
    if ".." in parts:
        return None
    folders = above(files)
    for start in range(1, len(parts)):
        for folder in folders:
            tail = posixpath.normpath(posixpath.join(folder, *parts[start:]))
            is_folder = start < len(parts) - 1 or _SEPARATORS.search(path[-1:])
            if files.read(tail) is not None or (is_folder and files.names(tail)):
                return tail
    return None


def is_absent(path: str) -> bool:
    """Return whether a text is an absolute path in a home folder that does not exist on this machine."""
    return bool(re.fullmatch(FOREIGN_PATH, path)) and not os.path.lexists(path)


def find_replacements(scripts: Scripts, files: ProjectFiles) -> tuple[PathReplacement, ...]:
    """Return the replacements for paths of another machine in the scripts."""
    return tuple({replacement.path: replacement for replacement in _replacements(scripts, files)}.values())


def _replacements(scripts: Scripts, files: ProjectFiles) -> Iterator[PathReplacement]:
    for script in scripts.found:
        for named in script.paths:
            tail = find_tail(named.text, files) if is_absent(named.text) else None
            if tail is not None:
                yield PathReplacement(path=named.text, file=tail, where=f"{script.path}:{named.line}")


def with_own_files(
    parameters: Sequence[Parameter], files: ProjectFiles
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Replace defaults that are paths of another machine by files of the repository; return texts of the repairs, too.

    Values that the user gives stay as they are.
    """
    changed: list[Parameter] = []
    repairs: list[str] = []
    for each in parameters:
        is_replaceable = each.source is ValueSource.DEFAULT and not is_secret(each) and is_absent(each.value)
        tail = find_tail(each.value, files) if is_replaceable else None
        changed.append(each if tail is None else structs.replace(each, value=tail))
        if tail is not None:
            repairs.append(
                f"'{each.value}', the default of '{each.name}', does not exist on this machine: '{tail}' is used"
            )
    return tuple(changed), tuple(repairs)
