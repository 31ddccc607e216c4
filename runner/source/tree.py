"""Reads the files of a project from a frozen tree."""

import os
from collections.abc import Callable
from posixpath import join, normpath
from typing import Protocol

from msgspec import Struct

from runner.errors import SnapshotError
from runner.model import Code, ProjectFiles
from runner.settings import Home
from runner.source.snapshot_store import Content, object_id, read_loose, read_objects

_FOLDER = b"40000"
_LINK = b"120000"
_SUBMODULE = b"160000"
_MOST_LINKS = 20
_LIKELY = ("mlproject", ".yaml", ".yml", ".toml", ".txt", ".lock", ".python-version")
"""File name endings of manifests and environment files."""


class Entry(Struct, frozen=True, array_like=True):
    """One entry of a tree object: git's mode in octal digits, and the id of the object."""

    mode: bytes
    identity: str


class Frozen(Protocol):
    """Any value with the identity of a tree, such as a snapshot."""

    @property
    def code(self) -> Code:
        """The identity of the code."""
        ...


class TreeFiles:
    """The files of a frozen project, read from the snapshot store; ``..`` reaches the repository, but not beyond.

    ``restore`` is called once if an object is missing or damaged, and tries to restore it.
    """

    def __init__(self, home: Home, snapshot: Frozen, restore: Callable[[], object] | None = None) -> None:
        self._restore = restore
        self._home = home
        self._tree = snapshot.code.tree
        self._top = snapshot.code.subdirectory
        self._folders: dict[str, dict[str, Entry]] = {}
        self._known: dict[str, Content] = {}

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        entry = self._find(self._locate(path))
        if entry is None or entry.mode == _FOLDER:
            return None
        if entry.mode == _SUBMODULE:
            return None
        found = self._object(entry.identity)
        return found.data if found.kind == "blob" else None

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, folders with a final ``/``; empty if the folder does not exist."""
        location = self._locate(folder or ".")
        entry = self._find(location)
        if entry is None or entry.mode != _FOLDER:
            return ()
        found = self._folder(entry.identity)
        return tuple(
            sorted(f"{name}/" if self._is_folder(location, name, one) else name for name, one in found.items())
        )

    def identity(self, path: str) -> str | None:
        """Return mode and id of a path, with links followed; None if it does not exist."""
        entry = self._find(self._locate(path))
        return f"{entry.mode.decode()} {entry.identity}" if entry else None

    def _is_folder(self, location: str | None, name: str, entry: Entry) -> bool:
        if entry.mode == _LINK:
            goal = self._find(join(location or "", name))
            return goal is not None and goal.mode == _FOLDER
        return entry.mode == _FOLDER

    def _locate(self, path: str) -> str | None:
        """Return a path relative to the top of the tree, ``""`` for the top; None if it leads out of the tree."""
        if not path or path.startswith("/"):
            return None
        location = normpath(join(self._top, path))
        return None if location == ".." or location.startswith("../") else _top_as_empty(location)

    def _find(self, location: str | None, links: int = 0) -> Entry | None:
        """Return the entry of a path, with links followed inside the tree."""
        if location is None or links > _MOST_LINKS:
            return None
        entry = Entry(_FOLDER, self._tree)
        parts = location.split("/") if location else []
        for number, part in enumerate(parts, 1):
            if entry.mode != _FOLDER:
                return None
            below = self._folder(entry.identity).get(part)
            if below is None:
                return None
            if below.mode == _LINK:
                goal = self._goal(below, "/".join(parts[: number - 1]))
                return None if goal is None else self._find(join(goal, *parts[number:]), links + 1)
            entry = below
        return entry

    def _goal(self, link: Entry, folder: str) -> str | None:
        location = normpath(join(folder, os.fsdecode(self._object(link.identity).data)))
        return None if location.startswith(("/", "../")) or location == ".." else _top_as_empty(location)

    def _folder(self, identity: str) -> dict[str, Entry]:
        if identity not in self._folders:
            found = self._object(identity)
            self._folders[identity] = read_tree(found.data) if found.kind == "tree" else {}
        return self._folders[identity]

    def _object(self, identity: str) -> Content:
        """Return an object of the tree; call ``restore`` if it is missing or damaged."""
        found = self._look_up(identity)
        if found is None and self._restore:
            restore, self._restore = self._restore, None
            restore()
            found = self._look_up(identity)
        if found is None:
            raise SnapshotError(
                f"The snapshot {self._tree} is damaged: {identity} is missing or can't be read",
                hint="`proj verify --repair` removes damaged objects; the next run stores the project's files again.",
            )
        return found

    def _look_up(self, identity: str) -> Content | None:
        found = self._known.get(identity) or read_loose(self._home, identity)
        if found is None:
            self._load(identity)
            found = self._known.get(identity)
        return found

    def _load(self, identity: str) -> None:
        """Read an object from a pack; the first call also reads the objects that the manifest parser needs next."""
        names = [identity]
        is_first = not self._known
        if is_first:
            parts = self._top.split("/") if self._top else []
            names += [self._tree, *(f"{self._tree}:{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1))]
        self._add(names)
        if is_first and self._tree in self._known:
            folder = self._find(self._locate("."))
            entries = self._folder(folder.identity) if folder and folder.mode == _FOLDER else {}
            self._add([one.identity for name, one in entries.items() if name.lower().endswith(_LIKELY)])

    def _add(self, names: list[str]) -> None:
        found = read_objects(self._home, names).values() if names else ()
        self._known.update({one.identity: one for one in found if object_id(one.kind, one.data) == one.identity})


class FilesBeside:
    """The files of a project, with the names of files that a run folder has beside the tree."""

    def __init__(self, files: ProjectFiles, beside: tuple[str, ...]) -> None:
        self._files = files
        self._beside = tuple(normpath(path) for path in beside)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file of the tree, or None."""
        return self._files.read(path)

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, folders with a final ``/``."""
        start = "" if normpath(folder or ".") == "." else f"{normpath(folder)}/"
        below = [path[len(start) :].partition("/") for path in self._beside if path.startswith(start)]
        return tuple(sorted({*self._files.names(folder), *(name + slash for name, slash, _ in below)}))


def _top_as_empty(location: str) -> str:
    """Return a normalized path, with ``""`` instead of ``"."`` for the top."""
    return "" if location == "." else location


def read_tree(content: bytes) -> dict[str, Entry]:
    """Parse a tree object. An entry is mode, space, name, NUL, and the id in 20 bytes; see git's tree.c."""
    entries: dict[str, Entry] = {}
    start = 0
    while start < len(content):
        end = content.index(b"\0", start)
        mode, _, name = content[start:end].partition(b" ")
        entries[os.fsdecode(name)] = Entry(mode, content[end + 1 : end + 21].hex())
        start = end + 21
    return entries
