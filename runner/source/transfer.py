"""Copies trees from another repository into the snapshot store, checked and without compression."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

from runner.base.files import new_folder, remove_tree
from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.durable import publish
from runner.source.gitcommand import CONTENT_LIMIT, GitDirectory, run_concurrently, run_git
from runner.source.packing import PackWriter
from runner.source.snapshot_store import (
    EMPTY_TREE,
    Content,
    absent_objects,
    has_object,
    is_incomplete,
    object_id,
    open_snapshot_store,
    parse_batch,
    store_git_directory,
    write_loose,
    write_object,
)

_LISTING = 256 << 20
"""Bytes of the paths of a tree: some million files. A small repository can have more paths than fit on any disk."""
_NAMED = 5
_MANY, _MUCH = 64, 8 << 20
"""More objects or bytes than this are written as one pack instead of one file for each object."""
_CHUNK, _CHUNK_OBJECTS = 32 << 20, 10_000
"""Bytes and objects that one git process reads."""


def copy_tree(home: Home, tree: str, objects: Path) -> bool:
    """Copy a tree with its content from another repository's folder of objects; return whether an object was new.

    The git process works in the snapshot store and reads the other repository as an alternate. The content of every
    object that is not from a mirror is checked against its id, because other projects share it under that id.

    Raises:
        SnapshotError: an object of the tree is missing or damaged there, as in a partial clone.
    """
    if tree == EMPTY_TREE:
        write_object(home, "tree", b"")
    if has_object(home, tree) and not is_incomplete(home):
        return False
    paths = _paths(home, tree, objects)
    absent = {identity: paths[identity] for identity in absent_objects(home, paths)}
    if len(absent) > _MANY and objects.is_relative_to(home.mirrors):
        _copy_packed(home, objects, absent)
    elif absent:
        _copy_objects(home, objects, absent)
    return bool(absent)


def has_complete_tree(home: Home, tree: str) -> bool:
    """Tell whether the snapshot store has all objects of a tree; their content is not read."""
    try:
        return not absent_objects(home, _paths(home, tree, home.snapshot_store / "objects"))
    except SnapshotError:
        return False


def _paths(home: Home, tree: str, objects: Path) -> dict[str, bytes]:
    """Return the objects of a tree, each with one of its paths."""
    done = run_git(store_git_directory(home, objects), "ls-tree", "-r", "-t", "-z", "--full-tree", tree, limit=_LISTING)
    if done.exit_code:
        raise _incomplete((), done.error_text)
    found = {tree: b""}
    for line in done.stdout.split(b"\0")[:-1]:
        head, _, path = line.partition(b"\t")
        _, kind, identity = head.split(b" ")
        if kind != b"commit":
            found.setdefault(identity.decode(), path)
    return found


def _copy_packed(home: Home, objects: Path, paths: dict[str, bytes]) -> None:
    """Copy the packed objects of a mirror without checking them: git checked them when it fetched them."""
    staging = new_folder(open_snapshot_store(home) / "incoming")
    arguments = ("pack-objects", "--quiet", "--delta-base-offset", "--window=0", "--compression=0")
    git_directory = store_git_directory(home, objects)
    try:
        done = run_git(git_directory, *arguments, staging / "pack", stdin="".join(f"{one}\n" for one in paths).encode())
        if done.exit_code:
            sizes = _sizes(git_directory, paths)
            raise _incomplete([path for one, path in paths.items() if one not in sizes], done.error_text)
        target = home.snapshot_store / "objects" / "pack"
        for suffix in (".pack", ".idx"):  # git looks for the index, so the index is moved last
            parts = list(staging.glob(f"*{suffix}"))
            for part in parts:
                part.chmod(0o444)
            publish((part, target / part.name) for part in parts)
    finally:
        remove_tree(staging)


def _copy_objects(home: Home, objects: Path, paths: dict[str, bytes]) -> None:
    git_directory = store_git_directory(home, objects)
    sizes = _sizes(git_directory, paths)
    lacking = [identity for identity in paths if identity not in sizes]
    if lacking:
        raise _incomplete([paths[identity] for identity in lacking], "")
    with ExitStack() as stack:
        writer = None
        if len(sizes) > _MANY or sum(sizes.values()) > _MUCH:
            writer = stack.enter_context(PackWriter(open_snapshot_store(home) / "objects"))
        chunks = _chunks(sizes)
        while pair := list(islice(chunks, 2)):
            for contents in run_concurrently(*(partial(_read, git_directory, some, paths) for some in pair)):
                if writer is None:
                    write_loose(home, contents)
                    continue
                for one in contents:
                    writer.add(one.kind, one.identity, one.data)


def _sizes(git_directory: GitDirectory, identities: Iterable[str]) -> dict[str, int]:
    stdin = "".join(f"{identity}\n" for identity in identities).encode()
    listed = run_git(git_directory, "cat-file", "--batch-check", "--buffer", stdin=stdin).lines
    fields = (line.split(" ") for line in listed)
    return {parts[0]: int(parts[2]) for parts in fields if len(parts) == 3}  # noqa: PLR2004


def _chunks(sizes: dict[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    total = 0
    for identity, size in sizes.items():
        if chunk and (total + size > _CHUNK or len(chunk) >= _CHUNK_OBJECTS):
            yield chunk
            chunk, total = [], 0
        chunk.append(identity)
        total += size
    if chunk:
        yield chunk


def _read(git_directory: GitDirectory, identities: list[str], paths: dict[str, bytes]) -> list[Content]:
    stdin = "".join(f"{identity}\n" for identity in identities).encode()
    done = run_git(git_directory, "cat-file", "--batch", "--buffer", stdin=stdin, limit=CONTENT_LIMIT)
    found = parse_batch(identities, done.stdout)
    wrong = [one for one in identities if one not in found or object_id(found[one].kind, found[one].data) != one]
    if wrong:
        raise _incomplete([paths[identity] for identity in wrong], done.error_text)
    return list(found.values())


def _incomplete(paths: Iterable[bytes], error_output: str) -> SnapshotError:
    """Return the error that names the files with missing or damaged content."""
    names = [path.decode("utf-8", "backslashreplace") for path in paths]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    named = f": {', '.join(names[:_NAMED])}{more}" if names else ""
    hint = "The clone is partial or damaged. If its origin can be reached, `git fetch --refetch` completes it."
    return SnapshotError(f"The repository lacks files of the commit{named}", context=error_output, hint=hint)
