"""The files of a project in a frozen tree, for whoever reads a manifest."""

import os
from collections.abc import Callable
from posixpath import join, normpath
from typing import Protocol

from msgspec import Struct

from runner.errors import SnapshotError
from runner.model import Code
from runner.settings import Home
from runner.source.snapshot_store import Content, identity_of, read_loose, read_objects

_FOLDER = b"40000"
_LINK = b"120000"
_SUBMODULE = b"160000"
_MOST_LINKS = 20
_LIKELY = ("mlproject", ".yaml", ".yml", ".toml", ".txt", ".lock", ".python-version")
"""How the names of files end that declare a project or its environment."""


class Entry(Struct, frozen=True, array_like=True):
    """One name in a folder of a tree: git's mode in octal digits, and the id of what it names."""

    mode: bytes
    identity: str


class Frozen(Protocol):
    """What has a tree: a snapshot."""

    @property
    def code(self) -> Code:
        """The identity of the code."""
        ...


class TreeFiles:
    """The files of a frozen project, read from the vault; ``..`` reaches the rest of the repository, never beyond.

    ``restore`` is called once when an object turns out to be missing or damaged, and brings it back if it can.
    """

    def __init__(self, home: Home, snapshot: Frozen, restore: Callable[[], object] | None = None) -> None:
        self._restore = restore
        self._home = home
        self._tree = snapshot.code.tree
        self._top = snapshot.code.subdirectory
        self._folders: dict[str, dict[str, Entry]] = {}
        self._known: dict[str, Content] = {}

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None where there is no such file."""
        entry = self._find(self._place(path))
        if entry is None or entry.mode == _FOLDER:
            return None
        if entry.mode == _SUBMODULE:
            return None
        found = self._object(entry.identity)
        return found.data if found.kind == "blob" else None

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, those of folders with a final ``/``; empty where there is no folder."""
        place = self._place(folder or ".")
        entry = self._find(place)
        if entry is None or entry.mode != _FOLDER:
            return ()
        found = self._folder(entry.identity)
        return tuple(sorted(f"{name}/" if self._is_folder(place, name, one) else name for name, one in found.items()))

    def identity(self, path: str) -> str | None:
        """Return mode and id of what a path names, links followed; None where nothing is there."""
        entry = self._find(self._place(path))
        return f"{entry.mode.decode()} {entry.identity}" if entry else None

    def _is_folder(self, place: str | None, name: str, entry: Entry) -> bool:
        if entry.mode == _LINK:
            goal = self._find(join(place or "", name))
            return goal is not None and goal.mode == _FOLDER
        return entry.mode == _FOLDER

    def _place(self, path: str) -> str | None:
        """Return a path from the top of the tree, ``""`` for the top itself; None where it leads out."""
        if not path or path.startswith("/"):
            return None
        place = normpath(join(self._top, path))
        return None if place == ".." or place.startswith("../") else _without_dot(place)

    def _find(self, place: str | None, links: int = 0) -> Entry | None:
        """Return what a path names, links followed as far as they stay in the tree."""
        if place is None or links > _MOST_LINKS:
            return None
        entry = Entry(_FOLDER, self._tree)
        parts = place.split("/") if place else []
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
        place = normpath(join(folder, os.fsdecode(self._object(link.identity).data)))
        return None if place.startswith(("/", "../")) or place == ".." else _without_dot(place)

    def _folder(self, identity: str) -> dict[str, Entry]:
        if identity not in self._folders:
            found = self._object(identity)
            self._folders[identity] = read_tree(found.data) if found.kind == "tree" else {}
        return self._folders[identity]

    def _object(self, identity: str) -> Content:
        """Return an object of the tree, all of which are in the vault as long as that is whole."""
        found = self._look_up(identity)
        if found is None and self._restore:
            restore, self._restore = self._restore, None
            restore()
            found = self._look_up(identity)
        if found is None:
            raise SnapshotError(
                f"The snapshot {self._tree} is damaged: {identity} is missing or can't be read",
                hint="`proj verify --repair` takes damaged objects out; the next run freezes the project again.",
            )
        return found

    def _look_up(self, identity: str) -> Content | None:
        found = self._known.get(identity) or read_loose(self._home, identity)
        if found is None:
            self._load(identity)
            found = self._known.get(identity)
        return found

    def _load(self, identity: str) -> None:
        """Read an object from a pack, and with it, since a process is dear, what a manifest's reader asks for next."""
        names = [identity]
        is_first = not self._known
        if is_first:
            parts = self._top.split("/") if self._top else []
            names += [self._tree, *(f"{self._tree}:{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1))]
        self._add(names)
        if is_first and self._tree in self._known:
            folder = self._find(self._place("."))
            entries = self._folder(folder.identity) if folder and folder.mode == _FOLDER else {}
            self._add([one.identity for name, one in entries.items() if name.lower().endswith(_LIKELY)])

    def _add(self, names: list[str]) -> None:
        found = read_objects(self._home, names).values() if names else ()
        self._known.update({one.identity: one for one in found if identity_of(one.kind, one.data) == one.identity})


def _without_dot(place: str) -> str:
    """Return a tidy path with ``""`` for the top, which is a lone dot; a hidden name keeps its own."""
    return "" if place == "." else place


def read_tree(content: bytes) -> dict[str, Entry]:
    """Return the entries of a tree object: mode, space, name, NUL, and the id in 20 bytes; see git's tree.c."""
    entries: dict[str, Entry] = {}
    start = 0
    while start < len(content):
        end = content.index(b"\0", start)
        mode, _, name = content[start:end].partition(b" ")
        entries[os.fsdecode(name)] = Entry(mode, content[end + 1 : end + 21].hex())
        start = end + 21
    return entries
