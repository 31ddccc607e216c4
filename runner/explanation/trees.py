"""Mixes two stored trees, file by file."""

import os
from collections.abc import Iterable

from msgspec import Struct

from runner.settings import Home
from runner.source.gitcommand import git
from runner.source.snapshot_store import new_objects, store_git_directory, temporary_index

_DELETED = "0" * 6


class TreeChange(Struct, frozen=True, kw_only=True):
    """A file that differs between two trees: its path, and its mode and object in the second one.

    ``before`` and ``after`` are the objects in both, None where a tree does not have the file.
    """

    path: str
    mode: str
    identity: str
    before: str | None = None
    after: str | None = None


def changes_between(first: str, second: str, home: Home) -> tuple[TreeChange, ...]:
    """Return the files in which two stored trees differ, by path.

    Raises:
        GitError: a tree is missing or damaged.
    """
    output = git(
        store_git_directory(home), "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", first, second
    )
    fields = output.split(b"\0")
    found = []
    for description, path in zip(fields[::2], fields[1::2], strict=False):
        before_mode, mode, before, identity = description.decode("ascii").removeprefix(":").split(" ")[:4]
        found.append(
            TreeChange(
                path=os.fsdecode(path),
                mode=mode,
                identity=identity,
                before=None if before_mode == _DELETED else before,
                after=None if mode == _DELETED else identity,
            )
        )
    return tuple(found)


def mix_trees(first: str, changes: Iterable[TreeChange], home: Home) -> str:
    """Store the first tree with some changes, and return its id.

    Raises:
        GitError: the changes do not fit together, such as a file and a folder of the same name.
    """
    lines = [f"{one.mode} {one.identity}\t".encode() + os.fsencode(one.path) for one in changes]
    if not lines:
        return first
    index = temporary_index(home)
    try:
        with new_objects(home, index=index) as directory:
            git(directory, "read-tree", first)
            git(directory, "update-index", "-z", "--replace", "--index-info", stdin=b"\0".join([*lines, b""]))
            return git(directory, "write-tree").decode("ascii").strip()
    finally:
        index.unlink(missing_ok=True)
