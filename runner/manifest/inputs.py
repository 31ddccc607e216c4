"""Finds the declared inputs of an entry point: expands patterns, and refuses inputs that do not exist."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import translate
from pathlib import Path
from posixpath import basename, dirname, isabs, normpath

import msgspec
from msgspec import structs

from runner.base.foreign_text import parse_yaml
from runner.base.suggestions import nearest
from runner.errors import ManifestError
from runner.manifest.files import tidy_path
from runner.model import EntryPoint, ProjectFiles

MOST_MATCHES = 10_000
"""Files that one pattern may match."""
_MAGIC = re.compile(r"[*?[]")
_MOST_NAMED = 5

Names = Callable[[str], Iterable[str]]
"""Returns the names in a folder, folders with a final ``/``, linked folders with ``//``."""


def find_inputs(entry_point: EntryPoint, project: Path | None, files: ProjectFiles) -> EntryPoint:
    """Return the entry point with the patterns in its inputs replaced by the paths that they match.

    Inputs are looked up in the folder ``project`` if there is one, and in the frozen tree ``files``.

    Raises:
        ManifestError: inputs do not exist; the error lists them.
    """
    if not entry_point.inputs:
        return entry_point
    found = {name: tuple(_matches(name, project, files)) for name in entry_point.inputs}
    absent = [name for name, paths in found.items() if not paths]
    if absent:
        raise _absence(absent, entry_point, project, files)
    crowded = next((name for name, paths in found.items() if len(paths) > MOST_MATCHES), None)
    if crowded is not None:
        raise ManifestError(
            f"the input '{crowded}' of '{entry_point.name}' matches more than {MOST_MATCHES:,} files",
            hint="declare the folder instead of its files",
        )
    inputs = dict.fromkeys(path for paths in found.values() for path in paths)
    copied = dict.fromkeys(path for name in entry_point.copied_inputs for path in found[name])
    return structs.replace(entry_point, inputs=tuple(inputs), copied_inputs=tuple(copied))


def declaring_line(entry_point: EntryPoint, names: Iterable[str]) -> str:
    """Return the line of the manifest that declares further inputs beside those that are declared already."""
    known = dict.fromkeys((*entry_point.inputs, *names))
    if not entry_point.copied_inputs:
        return f"inputs: [{', '.join(map(_as_yaml, known))}]"
    pairs = (f"{_as_yaml(name)}: {'copy' if name in entry_point.copied_inputs else 'link'}" for name in known)
    return f"inputs: {{{', '.join(pairs)}}}"


def _as_yaml(name: str) -> str:
    """Return a text as YAML reads it: without quotes if it is neither a number nor a word like ``no``."""
    is_plain = re.fullmatch(r"[\w./-]+", name, re.ASCII) and parse_yaml(f"[{name}]") == [name]
    return name if is_plain else msgspec.json.encode(name).decode()


def _matches(name: str, project: Path | None, files: ProjectFiles) -> Iterator[str]:
    """Yield the paths of an input that exist; a name that exists is no pattern, whatever characters it has."""
    if project is not None and (project / name).exists():
        yield name
        return
    if not isabs(name) and _is_in_tree(files, tidy_path(name)):
        yield name
        return
    if _MAGIC.search(name) is None:
        return
    parts = [part for part in name.split("/") if part not in ("", ".")]
    start = "/" if isabs(name) else ""
    seen: set[str] = set()
    for names in (_folder_names(project) if project is not None else None, None if isabs(name) else files.names):
        for path in () if names is None else _expand(start, parts, names):
            if path not in seen and len(seen) <= MOST_MATCHES:
                seen.add(path)
                yield path


def _is_in_tree(files: ProjectFiles, path: str) -> bool:
    return path == "." or bool({basename(path), f"{basename(path)}/"} & set(files.names(dirname(path))))


def _folder_names(project: Path) -> Names:
    """Return a function that lists folders of the project, and folders that links in it lead to."""

    def names(folder: str) -> list[str]:
        found = []
        with suppress(OSError), os.scandir(project / folder) as entries:
            found = [entry.name + "/" * (entry.is_dir() + (entry.is_dir() and entry.is_symlink())) for entry in entries]
        return sorted(found)

    return names


def _expand(start: str, parts: list[str], names: Names) -> Iterator[str]:
    """Yield the paths below ``start`` that match the parts of a pattern; ``**`` matches any number of folders."""
    if not parts:
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _expand(start, rest or ["*"], names)
        for name in names(start.rstrip("/") or start):
            # Linked folders are left out, since links can form loops.
            if name.endswith("/") and not name.endswith("//") and not name.startswith("."):
                yield from _expand(start + name, parts, names)
        return
    if _MAGIC.search(first) is None and rest:
        yield from _expand(f"{start}{first}/", rest, names)
        return
    pattern = re.compile(translate(first))
    for name in names(start.rstrip("/") or start):
        plain = name.rstrip("/")
        if pattern.match(plain) and (first.startswith(".") or not plain.startswith(".")):
            if rest:
                yield from _expand(f"{start}{plain}/", rest, names) if name.endswith("/") else ()
            else:
                yield start + plain


def _absence(absent: list[str], entry_point: EntryPoint, project: Path | None, files: ProjectFiles) -> ManifestError:
    shown = ", ".join(f"'{name}'" for name in absent[:_MOST_NAMED])
    more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
    noun, verb = ("input", "does") if len(absent) == 1 else ("inputs", "do")
    return ManifestError(
        f"'{entry_point.name}' declares the {noun} {shown}{more}, which {verb} not exist",
        context=f"looked in {project or 'the files of the commit'}",
        hint=_hint(absent[0], project, files),
    )


def _hint(name: str, project: Path | None, files: ProjectFiles) -> str:
    """Return how to get an absent input, or how it is probably spelled."""
    path = tidy_path(name)
    if _is_in_tree(files, f"{path}.dvc"):
        return f"'{path}.dvc' stands for it: get the data with 'dvc pull {path}'"
    folder = dirname(path)
    beside = [other.rstrip("/") for other in files.names(folder)] if not isabs(path) else []
    if project is not None:
        beside += [other.rstrip("/") for other in _folder_names(project)(folder)]
    near = nearest(basename(path), dict.fromkeys(beside))
    if near is not None:
        return f"did you mean '{normpath(f'{folder}/{near}' if folder else near)}'?"
    return "put the data there, or remove the entry from 'inputs' in the manifest"
