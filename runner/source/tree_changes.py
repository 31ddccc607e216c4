"""Lists the files that differ between two stored trees, with line counts and limited patches."""

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from runner.errors import GitError
from runner.settings import Home
from runner.source.gitcommand import git
from runner.source.snapshot_store import damaged_run, read_run_commit, store_git_directory
from runner.source.sound_objects import require_sound_objects

_DIFF = ("--literal-pathspecs", "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
_SETTINGS = (("core.bigFileThreshold", "512k"), ("core.quotePath", "false"))
"""git calls larger files binary and does not compare their lines."""


class PatchLimits(Struct, frozen=True, kw_only=True):
    """The number of changed lines and of files up to which patches are returned."""

    lines: int = 4000
    files: int = 200


class FileChange(Struct, frozen=True, kw_only=True):
    """A file that differs: added and removed lines, None for binary files; ``patch`` is None beyond the limits."""

    path: str
    added: int | None
    removed: int | None
    patch: str | None = None


def changes_between(home: Home, before: str, after: str, limits: PatchLimits) -> tuple[FileChange, ...]:
    """Return the files in which the code of two runs differs.

    Raises:
        SnapshotError: the snapshot store does not have the code of a run, or it is damaged.
    """
    first, second = read_run_commit(home, before).tree, read_run_commit(home, after).tree
    try:
        require_sound_objects(home, before, first)
        require_sound_objects(home, after, second)
        return _changes(home, first, second, limits)
    except GitError as error:
        raise damaged_run(after, error.context) from error


def changes_since_commit(home: Home, run_id: str, limits: PatchLimits) -> tuple[FileChange, ...]:
    """Return the files in which the code of a run differs from its commit; none if it has no commit.

    Raises:
        SnapshotError: the snapshot store does not have the code of the run, or it is damaged.
    """
    stored = read_run_commit(home, run_id)
    if stored.base is None or stored.base == stored.tree:
        return ()
    try:
        require_sound_objects(home, run_id, stored.base, stored.tree)
        return _changes(home, stored.base, stored.tree, limits)
    except GitError as error:
        raise damaged_run(run_id, error.context) from error


def _changes(home: Home, before: str, after: str, limits: PatchLimits) -> tuple[FileChange, ...]:
    git_directory = store_git_directory(home)
    numbers = git(git_directory, *_DIFF, "--numstat", "-z", before, after, settings=_SETTINGS)
    found = [_counted(entry) for entry in numbers.split(b"\0") if entry]
    chosen = list(_within(found, limits))
    paths = [path for _, path in chosen]
    output = git(git_directory, *_DIFF, before, after, "--", *paths, settings=_SETTINGS) if paths else b""
    # Lines of content never start with a letter, so this only finds the heads of files.
    patches = re.split(r"^(?=diff --git )", output.decode("utf-8", "replace"), flags=re.MULTILINE)[1:]
    by_path = {change.path: patch for (change, _), patch in zip(chosen, patches, strict=False)}
    return tuple(
        FileChange(path=one.path, added=one.added, removed=one.removed, patch=by_path.get(one.path)) for one, _ in found
    )


def _counted(entry: bytes) -> tuple[FileChange, str]:
    """Return a change and its path as an argument, from a line of ``git diff --numstat -z``."""
    added, removed, path = entry.split(b"\t", 2)
    counts = [int(number) if number.isdigit() else None for number in (added, removed)]
    argument = path.decode("utf-8", "surrogateescape")
    return FileChange(path=path.decode("utf-8", "backslashreplace"), added=counts[0], removed=counts[1]), argument


def _within(found: Sequence[tuple[FileChange, str]], limits: PatchLimits) -> Iterator[tuple[FileChange, str]]:
    rest = limits.lines
    for change, path in found[: limits.files]:
        lines = (change.added or 0) + (change.removed or 0)
        if lines <= rest:
            rest -= lines
            yield change, path
