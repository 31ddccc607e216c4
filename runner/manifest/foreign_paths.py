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


class Lead(Struct, frozen=True, kw_only=True):
    """A path that does not exist on this machine, and its replacement relative to the project folder."""

    path: str
    file: str
    where: str

    @property
    def text(self) -> str:
        """The recorded text of the repair."""
        return (
            f"'{self.path}' ({self.where}) is not on this machine: '{self.file}' of the repository is read in its stead"
        )


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
    """Tell whether a text is an absolute path in a home folder that does not exist on this machine."""
    return bool(re.fullmatch(FOREIGN_PATH, path)) and not os.path.lexists(path)


def find_leads(scripts: Scripts, files: ProjectFiles) -> tuple[Lead, ...]:
    """Return the replacements for paths of another machine in the scripts."""
    return tuple({lead.path: lead for lead in _leads(scripts, files)}.values())


def _leads(scripts: Scripts, files: ProjectFiles) -> Iterator[Lead]:
    for script in scripts.found:
        for place in script.paths:
            tail = find_tail(place.text, files) if is_absent(place.text) else None
            if tail is not None:
                yield Lead(path=place.text, file=tail, where=f"{script.path}:{place.line}")


def with_own_files(
    parameters: Sequence[Parameter], files: ProjectFiles
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Return parameters whose defaults name the repository's own files, and what was changed, in words for a person.

    What the user gives stays as it is.
    """
    changed: list[Parameter] = []
    repairs: list[str] = []
    for each in parameters:
        is_open = each.source is ValueSource.DEFAULT and not is_secret(each) and is_absent(each.value)
        tail = find_tail(each.value, files) if is_open else None
        changed.append(each if tail is None else structs.replace(each, value=tail))
        if tail is not None:
            repairs.append(f"'{each.value}', the default of '{each.name}', is not on this machine: '{tail}' is taken")
    return tuple(changed), tuple(repairs)
