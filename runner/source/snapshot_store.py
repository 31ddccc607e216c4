"""The snapshot store: one bare git repository per user with the complete trees of all runs."""

import hashlib
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from runner.base.files import new_folder, remove_tree, write_atomically
from runner.base.locks import locked
from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.durable import publish, write_durably
from runner.source.gitcommand import GitDirectory, object_file, run_git
from runner.source.packed_refs import PACKED_REFS, read_packed_refs
from runner.source.packing import PackWriter

RAW = "* -filter -text -eol -ident -working-tree-encoding -crlf\n"
"""Attributes that keep git from changing file contents; ``info/attributes`` overrides all other attributes."""

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = true
\tfilemode = true
\tsymlinks = true
\tautocrlf = false
\teol = lf
\tlogAllRefUpdates = false
\tfsync = none
\tcompression = 1
\tlooseCompression = 1
\tpreloadIndex = true
\tuntrackedCache = false
\tsparseCheckout = false
[pack]
\tcompression = 1
\twriteReverseIndex = false
[gc]
\tauto = 0
[checkout]
\tworkers = 0
\tthresholdForParallelism = 200
[index]
\tskipHash = true
"""

_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")
_OBJECT_ID = re.compile(r"^[0-9a-f]{40}$")
_KINDS = (b"blob", b"tree", b"commit", b"tag")
_MANY = 64
"""More objects than this are written as one pack, which needs one fsync."""


class RunCommit(Struct, frozen=True, kw_only=True):
    """The stored code of a run: the frozen tree, and the tree of the commit that it is compared with."""

    tree: str
    base: str | None = None
    message: str = ""


def open_snapshot_store(home: Home) -> Path:
    """Return the git directory of the snapshot store; create it at the first use."""
    store = home.snapshot_store
    if _is_initialized(store):
        return store
    home.ensure()
    with locked(home.root / "vault.lock"):
        # Files are written one by one, because `git init` applies the user's templates, hash and ref formats.
        for folder in ("", "refs", "objects", *_FOLDERS):
            _make_way(home, store / folder, for_folder=True)
            (store / folder).mkdir(parents=True, exist_ok=True)
        for name, content in _SKELETON.items():
            _make_way(home, store / name, for_folder=False)
            if not _has(store / name, content):
                write_atomically(store / name, content.encode(), durable=True)
    return store


def _make_way(home: Home, path: Path, *, for_folder: bool) -> None:
    """Move a file that is in the place of a folder, or a folder in the place of a file, aside to the home."""
    if os.path.lexists(path) and path.is_dir() != for_folder:
        path.rename(home.root / f"{path.name}.damaged-{os.urandom(4).hex()}")


_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/runs", "info", "incoming")
_SKELETON = {"config": _CONFIG, "info/attributes": RAW, "HEAD": "ref: refs/heads/none\n"}


def _is_initialized(store: Path) -> bool:
    """Tell whether all files that git requires are complete; a power loss may have emptied them."""
    return all(_has(store / name, content) for name, content in _SKELETON.items()) and all(
        (store / folder).is_dir() for folder in _FOLDERS
    )


def _has(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() == content.encode()
    except OSError:
        return False


def store_git_directory(home: Home, *alternates: Path, index: Path | None = None) -> GitDirectory:
    """Return the git directory of the snapshot store, with alternates to read objects from for one command."""
    return GitDirectory(git_dir=open_snapshot_store(home), index=index, alternates=alternates)


class Content(Struct, frozen=True, array_like=True):
    """An object: its id, its kind (``blob``, ``tree``, ``commit``) and its data."""

    identity: str
    kind: str
    data: bytes


def read_loose(home: Home, identity: str) -> Content | None:
    """Return a loose object without starting git; None if there is no such file or it is damaged."""
    try:
        data = zlib.decompress(object_file(home.snapshot_store / "objects", identity).read_bytes())
    except (OSError, zlib.error):
        return None
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != identity:
        return None
    head, _, body = data.partition(b"\0")
    return Content(identity, head.split()[0].decode(), body)


def read_objects(home: Home, names: Iterable[str]) -> dict[str, Content]:
    """Return objects by any name that git understands, such as ``TREE:path``; missing objects are left out."""
    requested = [name for name in names if "\n" not in name]
    stdin = "".join(f"{name}\n" for name in requested).encode()
    return parse_batch(requested, run_git(store_git_directory(home), "cat-file", "--batch", stdin=stdin).stdout)


def parse_batch(requested: Sequence[str], output: bytes) -> dict[str, Content]:
    """Parse the output of ``git cat-file --batch``, which ends early at a damaged pack."""
    found: dict[str, Content] = {}
    start = 0
    for name in requested:
        end = output.find(b"\n", start)
        if end < 0:
            break
        fields = output[start:end].split(b" ")
        start = end + 1
        if len(fields) == 3 and fields[1] in _KINDS:  # noqa: PLR2004
            size = int(fields[2])
            data = output[start : start + size]
            if len(data) < size:
                break
            found[name] = Content(fields[0].decode(), fields[1].decode(), data)
            start += size + 1
    return found


def object_id(kind: str, data: bytes) -> str:
    """Return git's id of an object."""
    digest = hashlib.sha1(f"{kind} {len(data)}\0".encode(), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def absent_objects(home: Home, identities: Iterable[str]) -> list[str]:
    """Return the given ids that are missing from the snapshot store or have an unreadable header, in their order."""
    stdin = "".join(f"{identity}\n" for identity in identities).encode()
    done = run_git(store_git_directory(home), "cat-file", "--batch-check", "--buffer", stdin=stdin)
    if done.exit_code:
        raise GitError("The snapshot store can't be read", context=done.error_text)
    return [line.split(b" ")[0].decode() for line in done.stdout.splitlines() if line.endswith(b" missing")]


def write_object(home: Home, kind: str, content: bytes) -> str:
    """Write a small object and return its id, as ``git hash-object -w`` does, without starting git."""
    identity = object_id(kind, content)
    write_loose(home, (Content(identity, kind, content),))
    return identity


def write_loose(home: Home, contents: Iterable[Content]) -> None:
    """Write a few loose objects and sync them to disk."""
    store = open_snapshot_store(home)
    wanted = {one.identity: one for one in contents}
    files = {identity: object_file(store / "objects", identity) for identity in wanted}
    pairs = []
    staging = store / "incoming" / f"loose-{os.urandom(8).hex()}"
    try:
        for identity, path in files.items():
            if _is_filled(path):
                continue
            one = wanted[identity]
            staging.mkdir(exist_ok=True)
            data = zlib.compress(f"{one.kind} {len(one.data)}\0".encode() + one.data, 1)
            (staging / identity).write_bytes(data)
            (staging / identity).chmod(0o444)
            pairs.append((staging / identity, path))
        publish(pairs)
    finally:
        remove_tree(staging)


def _is_filled(path: Path) -> bool:
    """Tell whether a file exists and is not empty; a power loss can leave an empty file."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


@contextmanager
def new_objects(home: Home, *alternates: Path, index: Path | None = None) -> Iterator[GitDirectory]:
    """Let git write objects into a staging folder; they are synced and moved to the store if the block succeeds."""
    store = open_snapshot_store(home)
    staging = new_folder(store / "incoming", "objects-")
    try:
        yield GitDirectory(git_dir=store, objects=staging, alternates=(store / "objects", *alternates), index=index)
        loose = [path for path in staging.glob("??/*") if not path.name.startswith("tmp_")]
        if len(loose) < _MANY:
            publish((path, store / "objects" / path.parent.name / path.name) for path in loose)
            return
        with PackWriter(store / "objects") as writer:
            for path in loose:
                head, _, body = zlib.decompress(path.read_bytes()).partition(b"\0")
                writer.add(head.split()[0].decode(), path.parent.name + path.name, body)
    finally:
        remove_tree(staging)


def has_object(home: Home, identity: str) -> bool:
    """Tell whether the snapshot store has an object."""
    if object_file(home.snapshot_store / "objects", identity).exists():
        return True
    return run_git(store_git_directory(home), "cat-file", "-e", identity).exit_code == 0


def is_incomplete(home: Home) -> bool:
    """Tell whether damaged objects were removed, so that the content of an existing tree may be missing."""
    return (home.snapshot_store / "incomplete").exists()


def run_ref(run_id: str) -> str:
    """Return the ref of a run's commit.

    Raises:
        SnapshotError: the id is not a valid run id.
    """
    if not _RUN_ID.match(run_id):
        raise SnapshotError(f"'{run_id}' is not the id of a run")
    return f"refs/runs/{run_id}"


def keep_commit(home: Home, run_id: str, commit: RunCommit) -> str:
    """Write the commit and the ref of a run, and return the commit's id.

    The parent of the commit, if any, has the tree that the run is compared with.
    """
    ref = run_ref(run_id)
    for tree in filter(None, (commit.tree, commit.base)):
        if not has_object(home, tree):
            raise SnapshotError(
                f"The snapshot store no longer has the tree {tree}",
                hint="Start the run again; proj takes a new snapshot.",
            )
    parent = ""
    if commit.base:
        parent = f"parent {_write_commit(home, commit.base, '', 0, 'base')}\n"
    identity = _write_commit(home, commit.tree, parent, int(time.time()), commit.message)
    write_durably(home.snapshot_store / ref, f"{identity}\n".encode())
    return identity


def _write_commit(home: Home, tree: str, parent: str, seconds: int, message: str) -> str:
    who = f"proj <proj@localhost> {seconds} +0000"
    text = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n"
    return write_object(home, "commit", text.encode("utf-8", "backslashreplace"))


def read_run_commit(home: Home, run_id: str) -> RunCommit:
    """Return the stored commit of a run.

    Raises:
        SnapshotError: there is no code of the run, or its commit is damaged.
    """
    if not has_run_commit(home, run_id):
        hint = "Only runs that `proj run` started on this machine have stored code."
        raise SnapshotError(f"The snapshot store does not have the code of the run {run_id}", hint=hint)
    lines, message = _read_commit(home, run_id, _read_ref(home, run_ref(run_id)))
    parent = next((name for kind, _, name in lines if kind == "parent"), None)
    base = None if parent is None else _tree_of(_read_commit(home, run_id, parent)[0])
    return RunCommit(tree=_tree_of(lines), base=base, message=message)


_Header = tuple[str, str, str]


def _read_commit(home: Home, run_id: str, identity: str) -> tuple[list[_Header], str]:
    """Return the header lines and the message of a commit, compared with its id, which git does not do.

    Raises:
        SnapshotError: the commit is missing or damaged.
    """
    found = read_loose(home, identity) if _OBJECT_ID.match(identity) else None
    if found is None and _OBJECT_ID.match(identity):
        found = read_objects(home, (identity,)).get(identity)
    if found is None or found.kind != "commit" or object_id(found.kind, found.data) != identity:
        raise damaged_run(run_id, f"its commit {identity!r} can't be read")
    head, _, message = found.data.decode("utf-8", "replace").partition("\n\n")
    return [line.partition(" ") for line in head.splitlines()], message.strip()


def _tree_of(lines: Iterable[_Header]) -> str:
    return next(name for kind, _, name in lines if kind == "tree")


def damaged_run(run_id: str, error_output: str | None) -> SnapshotError:
    """Return the error for a run with incomplete code; ``error_output`` is git's error output."""
    return SnapshotError(
        f"The code of the run {run_id} is damaged in the snapshot store",
        context=error_output,
        hint="`proj verify --repair` removes damaged objects. If the project still has the same files, its next run "
        "stores them again, which also repairs this run.",
    )


def has_run_commit(home: Home, run_id: str) -> bool:
    """Tell whether the snapshot store has the code of a run."""
    ref = run_ref(run_id)
    return (home.snapshot_store / ref).is_file() or ref in read_packed_refs(home.snapshot_store)


def run_commits(home: Home) -> dict[str, str]:
    """Return the commit id of every run by its run id; the commit of a damaged ref may not exist."""
    found = {
        ref: commit for ref, commit in read_packed_refs(home.snapshot_store).items() if ref.startswith("refs/runs/")
    }
    for path in (home.snapshot_store / "refs" / "runs").glob("*"):
        if _RUN_ID.match(path.name) and path.is_file():  # skips locks and files of killed processes
            found[f"refs/runs/{path.name}"] = path.read_text(encoding="ascii", errors="replace").strip()
    return {ref.removeprefix("refs/runs/"): commit for ref, commit in found.items()}


def _read_ref(home: Home, ref: str) -> str:
    try:
        return (home.snapshot_store / ref).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return read_packed_refs(home.snapshot_store).get(ref, "")


def release_snapshot(run_id: str, home: Home) -> None:
    """Remove the ref of a run; the next `collect_garbage` frees the space."""
    ref = run_ref(run_id)
    if has_run_commit(home, run_id):
        with locked(home.root / "vault.lock"):
            remove_left_locks(home)
            drop_ref(home, ref)


def drop_ref(home: Home, ref: str) -> None:
    """Remove a ref, also a damaged one, which git can't remove. The caller holds the lock of the snapshot store."""
    packed = home.snapshot_store / PACKED_REFS
    if ref in read_packed_refs(home.snapshot_store):
        lines = packed.read_bytes().splitlines(keepends=True)
        write_durably(packed, b"".join(line for line in lines if line.rstrip().rpartition(b" ")[2] != ref.encode()))
    remove_tree(home.snapshot_store / ref)


def remove_left_locks(home: Home) -> None:
    """Remove ref locks of killed git processes. The caller holds the store's lock, so the locks are unused."""
    for path in (
        home.snapshot_store / "packed-refs.lock",
        home.snapshot_store / "HEAD.lock",
        *(home.snapshot_store / "refs").rglob("*.lock"),
    ):
        path.unlink(missing_ok=True)


def temporary_index(home: Home) -> Path:
    """Return a path for a temporary index; the caller removes it."""
    return open_snapshot_store(home) / "incoming" / f"index-{os.urandom(8).hex()}"
