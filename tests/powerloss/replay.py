"""What is on a disk after a power loss, by the log of the changes.

The model is that of a journaling file system: names change in order, and are lost from some moment on; every sync of a
file or a folder makes all earlier changes of names last. Content lasts when its own file was synced; of what was
written since, any part may be missing: the file is as it was, empty, full of zeros, or torn.
"""

import os
import random
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

BLOCK = 4096
_NAMES = frozenset({"create", "mkdir", "unlink", "symlink", "rename", "link", "chmod"})
_CONTENT = frozenset({"write", "truncate"})

Change = tuple[Any, ...]


class Node(Struct, eq=False):
    """A file (its number), a link (where to) or a folder (its content)."""

    mode: int = 0o755
    number: int | None = None
    target: str | None = None
    below: "dict[str, Node] | None" = None


def read_log(path: Path) -> list[Change]:
    """Return the changes of a log."""
    content, changes, place = path.read_bytes(), [], 0
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        changes.append(tuple(msgspec.msgpack.decode(content[place + 4 : place + 4 + size])))
        place += 4 + size
    return changes


def lay_out(changes: list[Change], chance: random.Random, target: Path) -> None:
    """Write what is left when power goes after these changes to an empty folder."""
    synced = max((number for number, change in enumerate(changes) if change[0].startswith("fsync")), default=0)
    last_name = chance.choice((synced, len(changes), chance.randint(synced, len(changes))))
    root = Node(below={})
    for change in changes[:last_name]:
        if change[0] in _NAMES:
            _rename(root, change)
    contents = _contents(changes, chance)
    _write(root, target, contents, {})


def _rename(root: Node, change: Change) -> None:
    what, path, *rest = change
    folder, name = _folder(root, path)
    if what == "create":
        folder[name] = Node(number=rest[0], mode=rest[1])
    elif what == "mkdir":
        folder[name] = Node(below={}, mode=rest[0])
    elif what == "symlink":
        folder[name] = Node(target=rest[0])
    elif what == "unlink":
        del folder[name]
    elif what == "chmod":
        folder[name].mode = rest[0]
    elif what == "rename":
        node = folder.pop(name)
        new_folder, new_name = _folder(root, rest[0])
        new_folder[new_name] = node
    else:
        source, source_name = _folder(root, rest[0])
        folder[name] = source[source_name]


def _folder(root: Node, path: str) -> tuple[dict[str, Node], str]:
    *above, name = path.strip("/").split("/")
    node = root
    for part in above:
        node = (node.below or {})[part]
    return node.below if node.below is not None else {}, name


def _contents(changes: list[Change], chance: random.Random) -> dict[int, bytes]:
    """Return the content of every file: what was synced, and some of what was not."""
    steps: dict[int, list[Change]] = {}
    safe: dict[int, int] = {}
    for change in changes:
        if change[0] in _CONTENT:
            steps.setdefault(change[1], []).append(change)
        elif change[0] == "fsync":
            safe[change[1]] = len(steps.get(change[1], []))
    return {number: _content(done, safe.get(number, 0), chance) for number, done in steps.items()}


def _content(steps: list[Change], safe: int, chance: random.Random) -> bytes:
    content = bytearray()
    for step in steps[:safe]:
        _apply(content, step)
    pending = steps[safe:]
    fate = chance.choice(("all", "nothing", "zeros", "first", "some"))
    if fate == "nothing" or not pending:
        return bytes(content)
    whole = bytearray(content)
    for step in pending:
        _apply(whole, step)
    if fate == "all":
        return bytes(whole)
    if fate == "first":
        for step in pending[: chance.randint(0, len(pending))]:
            _apply(content, step)
        return bytes(content)
    # The size was written, and none or some of the blocks.
    torn = bytearray(content[: len(whole)].ljust(len(whole), b"\0"))
    for start in range(0, len(whole), BLOCK):
        if fate == "some" and chance.random() < 0.5:
            torn[start : start + BLOCK] = whole[start : start + BLOCK]
    return bytes(torn)


def _apply(content: bytearray, step: Change) -> None:
    if step[0] == "truncate":
        size = step[2]
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    _, _, offset, data = step
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _write(node: Node, place: Path, contents: dict[int, bytes], seen: dict[int, Path]) -> None:
    for name, inner in (node.below or {}).items():
        path = place / name
        if inner.below is not None:
            path.mkdir()
            _write(inner, path, contents, seen)
            path.chmod(inner.mode & 0o7777)
        elif inner.target is not None:
            path.symlink_to(inner.target)
        elif inner.number in seen:
            os.link(seen[inner.number], path)
        elif inner.number is not None:
            path.write_bytes(contents.get(inner.number, b""))
            path.chmod(inner.mode & 0o7777)
            seen[inner.number] = path
