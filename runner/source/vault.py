"""The vault: one bare git repository per user that holds the trees of runs, whole and on its own."""

import hashlib
import os
import re
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from runner.errors import SnapshotError
from runner.files import locked, new_folder, remove_tree, write_atomically
from runner.settings import Home
from runner.source.gitcommand import Place, git, object_file, run_git

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

_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")
_KINDS = (b"blob", b"tree", b"commit", b"tag")
_NAMED = 5
_SMALL_PACK = 100
"""Objects up to which a pack is unpacked, as git itself does after a fetch."""
_SMALL_PACK_SIZE = 32 << 20


class RunCommit(Struct, frozen=True, kw_only=True):
    """What the vault keeps of a run: the frozen tree, and the tree of the commit that it is compared with."""

    tree: str
    base: str | None = None
    message: str = ""


def open_vault(home: Home) -> Path:
    """Return the vault's git directory, made at the first use.

    It is laid down file by file, since ``git init`` follows the user's templates, hash and ref formats.
    """
    vault = home.vault
    if (vault / "HEAD").exists():
        return vault
    home.ensure()
    with locked(home.root / "vault.lock"):
        if (vault / "HEAD").exists():
            return vault
        for folder in ("objects/info", "objects/pack", "refs/heads", "refs/runs", "info", "incoming"):
            (vault / folder).mkdir(parents=True, exist_ok=True)
        (vault / "config").write_text(_CONFIG, encoding="utf-8")
        (vault / "info" / "attributes").write_text(RAW, encoding="utf-8")
        write_atomically(vault / "HEAD", b"ref: refs/heads/none\n")
    return vault


def vault_place(home: Home, *alternates: Path, index: Path | None = None) -> Place:
    """Return where git works when it reads or writes the vault; alternates lend objects for this one command."""
    return Place(git_dir=open_vault(home), index=index, alternates=alternates)


class Content(Struct, frozen=True, array_like=True):
    """An object: its id, its kind (``blob``, ``tree``, ``commit``) and what is in it."""

    identity: str
    kind: str
    data: bytes


def read_loose(home: Home, identity: str) -> Content | None:
    """Return an object that lies in a file of its own, which costs no process; None where it does not."""
    try:
        data = zlib.decompress(object_file(home.vault / "objects", identity).read_bytes())
    except (OSError, zlib.error):
        return None
    head, _, body = data.partition(b"\0")
    return Content(identity, head.split()[0].decode(), body)


def read_objects(home: Home, names: Iterable[str]) -> dict[str, Content]:
    """Return objects by any name that git understands, such as ``TREE:path``; those that are not there are left out."""
    asked = [name for name in names if "\n" not in name]
    output = run_git(
        vault_place(home), "cat-file", "--batch", stdin="".join(f"{name}\n" for name in asked).encode()
    ).stdout
    found: dict[str, Content] = {}
    start = 0
    for name in asked:
        end = output.index(b"\n", start)
        words = output[start:end].split(b" ")
        start = end + 1
        if len(words) == 3 and words[1] in _KINDS:  # noqa: PLR2004
            size = int(words[2])
            found[name] = Content(words[0].decode(), words[1].decode(), output[start : start + size])
            start += size + 1
    return found


def write_object(home: Home, kind: str, content: bytes) -> str:
    """Put a small object into the vault and return its id, as ``git hash-object -w`` would, without a process."""
    data = f"{kind} {len(content)}\0".encode() + content
    identity = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    place = object_file(open_vault(home) / "objects", identity)
    if not place.exists():
        write_atomically(place, zlib.compress(data, 1))
        place.chmod(0o444)
    return identity


def has_object(home: Home, identity: str) -> bool:
    """Say whether the vault itself holds an object."""
    if object_file(home.vault / "objects", identity).exists():
        return True
    return run_git(vault_place(home), "cat-file", "-e", identity).exit_code == 0


def bring_tree(home: Home, tree: str, objects: Path, known: Iterable[str] = ()) -> bool:
    """Copy a tree with all below it into the vault from another repository's folder of objects; say whether it was new.

    That repository only lends its objects to a process that works in the vault. What hangs on the ``known`` trees is
    taken to be in the vault already.

    Raises:
        SnapshotError: something below the tree is missing there, as in a partial clone.
    """
    if tree == EMPTY_TREE:
        write_object(home, "tree", b"")
    if has_object(home, tree):
        return False
    incoming = open_vault(home) / "incoming"
    words = ("pack-objects", "--quiet", "--revs", "--delta-base-offset", "--window=0")
    stdin = "".join(f"{line}\n" for line in (tree, *(f"^{name}" for name in known))).encode()
    staging = new_folder(incoming)
    try:
        done = run_git(vault_place(home, objects), *words, staging / "pack", stdin=stdin)
        if done.exit_code:
            raise _incomplete(home, tree, objects, done.complaint)
        for pack in staging.glob("*.pack"):
            _take_in(home, pack)
    finally:
        remove_tree(staging)
    return True


def _incomplete(home: Home, tree: str, objects: Path, complaint: str) -> SnapshotError:
    """Return the error that names the files of which the repository has no content."""
    place = vault_place(home, objects)
    listed = run_git(place, "ls-tree", "-r", "-z", tree).stdout.split(b"\0")[:-1]
    entries = (line.partition(b"\t") for line in listed)
    paths = {entry.split(b" ")[2]: path for entry, _, path in entries if not entry.startswith(b"160000")}
    said = run_git(place, "cat-file", "--batch-check", stdin=b"".join(name + b"\n" for name in paths)).stdout
    missing = [line.split(b" ")[0] for line in said.splitlines() if line.endswith(b" missing")]
    names = [paths[name].decode("utf-8", "backslashreplace") for name in missing if name in paths]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    told = f": {', '.join(names[:_NAMED])}{more}" if names else ""
    hint = "It is a partial or damaged clone. Where its origin can be reached, `git fetch --refetch` completes it."
    return SnapshotError(f"Not all files of the commit are in the repository{told}", context=complaint, hint=hint)


def _take_in(home: Home, pack: Path) -> None:
    """Put a pack among the vault's; a small one is unpacked, since many packs make every look-up slower."""
    with pack.open("rb") as file:
        count = int.from_bytes(file.read(12)[8:], "big")  # https://git-scm.com/docs/pack-format
    if count < _SMALL_PACK and pack.stat().st_size < _SMALL_PACK_SIZE:
        git(vault_place(home), "unpack-objects", "-q", stdin=pack.read_bytes())
        return
    target = home.vault / "objects" / "pack"
    target.mkdir(parents=True, exist_ok=True)
    for suffix in (".pack", ".idx"):  # git looks for the index, so that comes last
        part = pack.with_suffix(suffix)
        part.chmod(0o444)
        part.replace(target / part.name)


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
    write_atomically(home.vault / ref, f"{identity}\n".encode())
    return identity


def _write_commit(home: Home, tree: str, parent: str, seconds: int, message: str) -> str:
    who = f"proj <proj@localhost> {seconds} +0000"
    text = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n"
    return write_object(home, "commit", text.encode("utf-8", "backslashreplace"))


def read_run(home: Home, run_id: str) -> RunCommit:
    """Return what the vault keeps of a run.

    Raises:
        SnapshotError: it keeps nothing of it.
    """
    ref = run_ref(run_id)
    if not _has_ref(home, ref):
        hint = "Only runs that `proj run` started here have it."
        raise SnapshotError(f"The vault keeps no code of the run {run_id}", hint=hint)
    listed = git(vault_place(home), "rev-list", "--format=%T%n%B%x00", "--max-count=2", ref).decode("utf-8", "replace")
    # Each entry: a line with the id, one with the tree, then the message.
    parts = [entry.strip().split("\n", 2) for entry in listed.split("\0") if entry.strip()]
    return RunCommit(tree=parts[0][1], base=parts[1][1] if len(parts) > 1 else None, message=parts[0][-1])


def keeps_code(home: Home, run_id: str) -> bool:
    """Say whether the code of a run is here."""
    return _has_ref(home, run_ref(run_id))


def _has_ref(home: Home, ref: str) -> bool:
    if (home.vault / ref).exists():
        return True
    if not (home.vault / "HEAD").exists():  # asking does not make a vault
        return False
    return run_git(vault_place(home), "show-ref", "--quiet", "--verify", ref).exit_code == 0


def forget_snapshot(run_id: str, home: Home) -> None:
    """Let go of a run's tree; the space is freed by the next `collect_garbage`."""
    ref = run_ref(run_id)
    if _has_ref(home, ref):
        git(vault_place(home), "update-ref", "-d", ref)


def temporary_index(home: Home) -> Path:
    """Return a name for an index that one command chain uses; the caller removes it."""
    return open_vault(home) / "incoming" / f"index-{os.urandom(8).hex()}"
