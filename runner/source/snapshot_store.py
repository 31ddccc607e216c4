"""The vault: one bare git repository per user that holds the trees of runs, whole and on its own."""

import hashlib
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from runner.base.files import locked, new_folder, remove_tree, write_atomically
from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.durable import publish, write_durably
from runner.source.gitcommand import GitDirectory, git, object_file, run_git
from runner.source.packing import PackWriter

RAW = "* -filter -text -eol -ident -working-tree-encoding -crlf\n"
"""Attributes that make git keep and lay out the bytes as they are; those in ``info/attributes`` win over all others."""

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

VAULT = "the store of snapshots"
_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")
_KINDS = (b"blob", b"tree", b"commit", b"tag")
_MANY = 64
"""Objects from which on they are written as a pack: one file to wait for, and no look-up in a folder for each."""


class RunCommit(Struct, frozen=True, kw_only=True):
    """What the vault keeps of a run: the frozen tree, and the tree of the commit that it is compared with."""

    tree: str
    base: str | None = None
    message: str = ""


def open_snapshot_store(home: Home) -> Path:
    """Return the vault's git directory, made at the first use.

    It is laid down file by file, since ``git init`` follows the user's templates, hash and ref formats.
    """
    vault = home.vault
    if _is_laid_down(vault):
        return vault
    home.ensure()
    with locked(home.root / "vault.lock"):
        for folder in _FOLDERS:
            (vault / folder).mkdir(parents=True, exist_ok=True)
        for name, content in _SKELETON.items():
            if not _has(vault / name, content):
                write_atomically(vault / name, content.encode(), durable=True)
    return vault


_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/runs", "info", "incoming")
_SKELETON = {"config": _CONFIG, "info/attributes": RAW, "HEAD": "ref: refs/heads/none\n"}


def _is_laid_down(vault: Path) -> bool:
    """Say whether all is there that git knows the store by: a power loss may have emptied it."""
    return all(_has(vault / name, content) for name, content in _SKELETON.items()) and all(
        (vault / folder).is_dir() for folder in _FOLDERS
    )


def _has(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() == content.encode()
    except OSError:
        return False


def snapshot_store_git_directory(home: Home, *alternates: Path, index: Path | None = None) -> GitDirectory:
    """Return where git works when it reads or writes the vault; alternates lend objects for this one command."""
    return GitDirectory(git_dir=open_snapshot_store(home), index=index, alternates=alternates)


class Content(Struct, frozen=True, array_like=True):
    """An object: its id, its kind (``blob``, ``tree``, ``commit``) and what is in it."""

    identity: str
    kind: str
    data: bytes


def read_loose(home: Home, identity: str) -> Content | None:
    """Return an object that lies in a file of its own, whole, which costs no process; None where it does not."""
    try:
        data = zlib.decompress(object_file(home.vault / "objects", identity).read_bytes())
    except (OSError, zlib.error):
        return None
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != identity:
        return None
    head, _, body = data.partition(b"\0")
    return Content(identity, head.split()[0].decode(), body)


def read_objects(home: Home, names: Iterable[str]) -> dict[str, Content]:
    """Return objects by any name that git understands, such as ``TREE:path``; those that are not there are left out."""
    asked = [name for name in names if "\n" not in name]
    stdin = "".join(f"{name}\n" for name in asked).encode()
    return parse_batch(asked, run_git(snapshot_store_git_directory(home), "cat-file", "--batch", stdin=stdin).stdout)


def parse_batch(asked: Sequence[str], output: bytes) -> dict[str, Content]:
    """Return by name what ``git cat-file --batch`` printed; git ends early where it meets a damaged pack."""
    found: dict[str, Content] = {}
    start = 0
    for name in asked:
        end = output.find(b"\n", start)
        if end < 0:
            break
        words = output[start:end].split(b" ")
        start = end + 1
        if len(words) == 3 and words[1] in _KINDS:  # noqa: PLR2004
            size = int(words[2])
            data = output[start : start + size]
            if len(data) < size:
                break
            found[name] = Content(words[0].decode(), words[1].decode(), data)
            start += size + 1
    return found


def identity_of(kind: str, data: bytes) -> str:
    """Return the id that git gives to an object."""
    digest = hashlib.sha1(f"{kind} {len(data)}\0".encode(), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def absent_objects(home: Home, identities: Iterable[str]) -> list[str]:
    """Return those objects that the vault does not have, or can't read the head of, in the order given."""
    stdin = "".join(f"{identity}\n" for identity in identities).encode()
    done = run_git(snapshot_store_git_directory(home), "cat-file", "--batch-check", "--buffer", stdin=stdin)
    if done.exit_code:
        raise GitError("The store of snapshots can't be read", context=done.error_text)
    return [line.split(b" ")[0].decode() for line in done.stdout.splitlines() if line.endswith(b" missing")]


def write_object(home: Home, kind: str, content: bytes) -> str:
    """Put a small object into the vault and return its id, as ``git hash-object -w`` would, without a process."""
    identity = identity_of(kind, content)
    write_loose(home, (Content(identity, kind, content),))
    return identity


def write_loose(home: Home, contents: Iterable[Content]) -> None:
    """Put a few objects into the vault, each in a file of its own; they are on disk when this returns."""
    vault = open_snapshot_store(home)
    wanted = {one.identity: one for one in contents}
    files = {identity: object_file(vault / "objects", identity) for identity in wanted}
    pairs = []
    staging = vault / "incoming" / f"loose-{os.urandom(8).hex()}"
    try:
        for identity, place in files.items():
            if _is_filled(place):
                continue
            one = wanted[identity]
            staging.mkdir(exist_ok=True)
            data = zlib.compress(f"{one.kind} {len(one.data)}\0".encode() + one.data, 1)
            (staging / identity).write_bytes(data)
            (staging / identity).chmod(0o444)
            pairs.append((staging / identity, place))
        publish(pairs)
    finally:
        remove_tree(staging)


def _is_filled(place: Path) -> bool:
    """Say whether a file is there and not emptied, as those are that a machine lost the power over."""
    try:
        return place.stat().st_size > 0
    except OSError:
        return False


@contextmanager
def new_objects(home: Home, *alternates: Path, index: Path | None = None) -> Iterator[GitDirectory]:
    """Let git write objects beside the vault; they enter it, on disk, when the block ends without an error."""
    vault = open_snapshot_store(home)
    staging = new_folder(vault / "incoming", "objects-")
    try:
        yield GitDirectory(git_dir=vault, objects=staging, alternates=(vault / "objects", *alternates), index=index)
        loose = [path for path in staging.glob("??/*") if not path.name.startswith("tmp_")]
        if len(loose) < _MANY:
            publish((path, vault / "objects" / path.parent.name / path.name) for path in loose)
            return
        with PackWriter(vault / "objects") as writer:
            for path in loose:
                head, _, body = zlib.decompress(path.read_bytes()).partition(b"\0")
                writer.add(head.split()[0].decode(), path.parent.name + path.name, body)
    finally:
        remove_tree(staging)


def has_object(home: Home, identity: str) -> bool:
    """Say whether the vault itself holds an object."""
    if object_file(home.vault / "objects", identity).exists():
        return True
    return run_git(snapshot_store_git_directory(home), "cat-file", "-e", identity).exit_code == 0


def is_incomplete(home: Home) -> bool:
    """Say whether damaged objects were taken out, so that a tree may be there without all that belongs to it."""
    return (home.vault / "incomplete").exists()


def run_ref(run_id: str) -> str:
    """Return the ref that keeps a run's tree.

    Raises:
        SnapshotError: the id can't be part of a ref.
    """
    if not _RUN_ID.match(run_id):
        raise SnapshotError(f"'{run_id}' is not the id of a run")
    return f"refs/runs/{run_id}"


def keep_commit(home: Home, run_id: str, commit: RunCommit) -> str:
    """Keep a run's tree for as long as the run exists, and return the id of the vault's commit.

    Its parent, where there is one, holds the tree that the run is compared with.
    """
    ref = run_ref(run_id)
    for tree in filter(None, (commit.tree, commit.base)):
        if not has_object(home, tree):
            raise SnapshotError(f"The vault lost the tree {tree}", hint="Start the run again: it is frozen anew.")
    parent = ""
    if commit.base:
        parent = f"parent {_write_commit(home, commit.base, '', 0, 'base')}\n"
    identity = _write_commit(home, commit.tree, parent, int(time.time()), commit.message)
    write_durably(home.vault / ref, f"{identity}\n".encode())
    return identity


def _write_commit(home: Home, tree: str, parent: str, seconds: int, message: str) -> str:
    who = f"proj <proj@localhost> {seconds} +0000"
    text = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n"
    return write_object(home, "commit", text.encode("utf-8", "backslashreplace"))


def read_run(home: Home, run_id: str) -> RunCommit:
    """Return what the vault keeps of a run.

    Raises:
        SnapshotError: it keeps nothing of it, or the commit is damaged.
    """
    ref = run_ref(run_id)
    if not keeps_code(home, run_id):
        hint = "Only runs that `proj run` started here have it."
        raise SnapshotError(f"The vault keeps no code of the run {run_id}", hint=hint)
    try:
        output = git(snapshot_store_git_directory(home), "rev-list", "--format=%T%n%B%x00", "--max-count=2", ref)
    except GitError as error:
        raise damaged_run(run_id, error.context) from error
    listed = output.decode("utf-8", "replace")
    # Each entry: a line with the id, one with the tree, then the message.
    parts = [entry.strip().split("\n", 2) for entry in listed.split("\0") if entry.strip()]
    return RunCommit(tree=parts[0][1], base=parts[1][1] if len(parts) > 1 else None, message=parts[0][-1])


def damaged_run(run_id: str, complaint: str | None) -> SnapshotError:
    """Return the error for a run whose code is not whole; git's complaint names the object."""
    return SnapshotError(
        f"The code of the run {run_id} is damaged in {VAULT}",
        context=complaint,
        hint="`proj verify --repair` takes damaged objects out. Where a project still has the same files, its next run "
        "freezes them again, which makes the code of this run whole too.",
    )


def keeps_code(home: Home, run_id: str) -> bool:
    """Say whether the code of a run is here."""
    ref = run_ref(run_id)
    return (home.vault / ref).exists() or ref in _packed_refs(home)


def run_commits(home: Home) -> dict[str, str]:
    """Return the commit of every run by its id, as the refs name it; a damaged ref names none that there is."""
    found = {ref: commit for ref, commit in _packed_refs(home).items() if ref.startswith("refs/runs/")}
    for path in (home.vault / "refs" / "runs").glob("*"):
        if _RUN_ID.match(path.name):  # else a lock, or what a kill left
            found[f"refs/runs/{path.name}"] = path.read_text(encoding="ascii", errors="replace").strip()
    return {ref.removeprefix("refs/runs/"): commit for ref, commit in found.items()}


def _packed_refs(home: Home) -> dict[str, str]:
    try:
        lines = (home.vault / "packed-refs").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(" ", 1) for line in lines if " " in line and not line.startswith("#"))
    return {ref: commit for commit, ref in pairs}


def forget_snapshot(run_id: str, home: Home) -> None:
    """Let go of a run's tree; the space is freed by the next `collect_garbage`."""
    ref = run_ref(run_id)
    if keeps_code(home, run_id):
        with locked(home.root / "vault.lock"):
            remove_left_locks(home)
            drop_ref(home, ref)


def drop_ref(home: Home, ref: str) -> None:
    """Remove a ref, one that is damaged as well, which git refuses to touch. The caller holds the lock of the vault."""
    packed = home.vault / "packed-refs"
    if ref in _packed_refs(home):
        lines = packed.read_bytes().splitlines(keepends=True)
        write_durably(packed, b"".join(line for line in lines if line.rstrip().rpartition(b" ")[2] != ref.encode()))
    (home.vault / ref).unlink(missing_ok=True)


def remove_left_locks(home: Home) -> None:
    """Remove locks of refs that a killed git left. The caller holds the lock of the vault, so nobody has them."""
    for path in (home.vault / "packed-refs.lock", home.vault / "HEAD.lock", *(home.vault / "refs").rglob("*.lock")):
        path.unlink(missing_ok=True)


def temporary_index(home: Home) -> Path:
    """Return a name for an index that one command chain uses; the caller removes it."""
    return open_snapshot_store(home) / "incoming" / f"index-{os.urandom(8).hex()}"
