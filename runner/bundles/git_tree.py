"""Writes the content of a bundle as a git tree, and reads such a tree back.

The tree has the files of the bundle, except `code.bundle`, and two folders of trees: ``code`` is the code of the run,
``base`` that of the commit that it is compared with. git then sends only what the other side does not have.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import structs

from runner.bundles import layout
from runner.bundles.layout import Part, check_member
from runner.errors import BundleError
from runner.source.code_bundle import portable_message
from runner.source.gitcommand import GitDirectory, git
from runner.source.snapshot_store import RunCommit

CODE_FOLDER, BASE_FOLDER = "code", "base"
_FILE = "100644"
_MOST_ENTRIES = 200_000
_LISTING = 256 << 20


def write_commit(
    directory: GitDirectory, folder: Path, parts: Iterable[Part], code: RunCommit, parent: str | None
) -> str:
    """Write the files of a bundle and the code of its run as a commit, and return its id.

    The same content and parent give the same commit. ``folder`` is for temporary files.
    """
    entries = []
    for number, part in enumerate(parts):
        file = folder / str(number)
        with file.open("wb") as target:
            target.writelines(part.pieces())
        entries.append((part.path, file))
    listed = "".join(f"{file}\n" for _, file in entries).encode()
    blobs = git(directory, "hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).decode().split()
    for _, file in entries:
        file.unlink()
    index = structs.replace(directory, index=folder / "index")
    lines = (f"{_FILE} {blob}\t{name}\0" for (name, _), blob in zip(entries, blobs, strict=True))
    git(index, "update-index", "-z", "--index-info", stdin="".join(lines).encode())
    files = git(index, "write-tree").decode().strip()
    (folder / "index").unlink(missing_ok=True)
    tree = _with_code(directory, files, code)
    return _commit(directory, tree, parent, code)


def _with_code(directory: GitDirectory, files: str, code: RunCommit) -> str:
    listed = git(directory, "ls-tree", "-z", files)
    listed += f"040000 tree {code.tree}\t{CODE_FOLDER}\0".encode()
    if code.base:
        listed += f"040000 tree {code.base}\t{BASE_FOLDER}\0".encode()
    return git(directory, "mktree", "-z", stdin=listed).decode().strip()


def _commit(directory: GitDirectory, tree: str, parent: str | None, code: RunCommit) -> str:
    run_id = code.message.partition("\n")[0].removeprefix("run ")
    message = portable_message(run_id, code)
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else [])]
    lines += [f"{role} proj <proj@localhost> 0 +0000" for role in ("author", "committer")]
    content = "\n".join((*lines, "", message, "")).encode("utf-8", "backslashreplace")
    return git(directory, "hash-object", "-t", "commit", "-w", "--stdin", stdin=content).decode().strip()


def read_files(directory: GitDirectory, commit: str, folder: Path, name: str) -> frozenset[str]:
    """Write the files of a bundle in a commit to a folder, and return their names.

    Raises:
        BundleError: the commit has something else than the files of a bundle.
    """
    found = dict(_entries(directory, commit, name))
    for path, blob in found.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(git(directory, "cat-file", "blob", blob, limit=layout.LARGEST))
        except (FileExistsError, NotADirectoryError) as error:
            raise BundleError(f"{name} has a file in the place of a folder: {path[:120]!r}") from error
    return frozenset(found)


def read_code(directory: GitDirectory, commit: str, name: str) -> RunCommit:
    """Return the trees and the message of a commit.

    Raises:
        BundleError: it is no commit of a run.
    """
    kind = git(directory, "cat-file", "-t", commit).decode().strip()
    if kind != "commit":
        raise BundleError(f"{name} is refused: it is a {kind}, not a commit")
    trees = {path: identity for mode, identity, path in _top(directory, commit) if mode == "040000"}
    if CODE_FOLDER not in trees:
        raise BundleError(f"{name} is incomplete: it has no code")
    text = git(directory, "cat-file", "commit", commit).decode("utf-8", "replace")
    message = text.partition("\n\n")[2].strip()
    return RunCommit(tree=trees[CODE_FOLDER], base=trees.get(BASE_FOLDER), message=message)


def _top(directory: GitDirectory, commit: str) -> Iterator[tuple[str, str, str]]:
    for line in git(directory, "ls-tree", "-z", commit, limit=_LISTING).split(b"\0")[:-1]:
        head, _, path = line.partition(b"\t")
        mode, _, identity = head.decode().split(" ")
        yield mode, identity, os.fsdecode(path)


def _entries(directory: GitDirectory, commit: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield path and id of each file of the bundle, without entering the code."""
    for mode, identity, path in _top(directory, commit):
        if path in (CODE_FOLDER, BASE_FOLDER) and mode == "040000":
            continue
        if mode == _FILE:
            yield check_member(path, name), identity
        elif mode == "040000" and path in layout.FOLDERS:
            yield from _below(directory, identity, path, name)
        else:
            raise BundleError(f"{name} has an entry that does not belong in a bundle: {path[:120]!r}")


def _below(directory: GitDirectory, tree: str, folder: str, name: str) -> Iterator[tuple[str, str]]:
    lines = git(directory, "ls-tree", "-rz", tree, limit=_LISTING).split(b"\0")[:-1]
    if len(lines) > _MOST_ENTRIES:
        raise BundleError(f"{name} has {len(lines):,} files; at most {_MOST_ENTRIES:,} are taken")
    for line in lines:
        head, _, path = line.partition(b"\t")
        mode, _, identity = head.decode().split(" ")
        shown = f"{folder}/{os.fsdecode(path)}"
        if mode != _FILE:
            raise BundleError(f"{name} has something else than a file: {shown[:120]!r}")
        yield check_member(shown, name), identity
