"""Checks out a tree into a folder: writes missing files and removes files that do not belong to it."""

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs

from runner.base.files import Stamp
from runner.base.safe_paths import open_tree, remove_in_run
from runner.errors import GitError
from runner.settings import Home
from runner.source.gitcommand import git, run_concurrently
from runner.source.snapshot_store import store_git_directory, temporary_index

_COMMIT = b"160000"
_MOST_TICKS = 1200
"""Milliseconds to wait for a new file system timestamp; the coarsest file systems store whole seconds."""


class CheckoutEntry(Struct, frozen=True, array_like=True, gc=False):
    """A checked-out file of the tree: git's mode, the blob's id, and the file's stamp."""

    mode: bytes
    identity: str
    stamp: Stamp


class Provided(Struct, frozen=True, array_like=True, gc=False):
    """A file in the run folder that is not in the tree, with the user's file that it comes from.

    ``how`` is ``cloned``, ``copied`` or ``linked``. ``sha256`` is set for files that are too large to be stored.
    """

    origin: bytes
    how: str
    before: Stamp
    stamp: Stamp
    sha256: str | None = None


class Table(Struct, frozen=True, kw_only=True):
    """The record of a run folder: its tree, the checked-out files, and the provided files."""

    tree: str = ""
    laid: dict[bytes, CheckoutEntry] = {}
    provided: dict[bytes, Provided] = {}


class Contents(Struct, frozen=True, kw_only=True):
    """The result of a scan: the stamps of files and links, and the folders."""

    files: dict[bytes, Stamp]
    folders: list[bytes]


def scan(top: Path, skip: Iterable[bytes] = (), mounted: Collection[bytes] = ()) -> Contents:
    """Scan every file below a folder without following links.

    Folders with a name in ``skip`` and those whose path is in ``mounted`` are skipped.

    Raises:
        OSError: a folder can't be read.
    """
    skipped = frozenset(skip)
    start = os.fsencode(top)
    files: dict[bytes, Stamp] = {}
    folders: list[bytes] = []
    waiting = [b""]
    stamp = Stamp.of
    while waiting:
        prefix = waiting.pop()
        with os.scandir(start + b"/" + prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in skipped and path not in mounted:
                        folders.append(path)
                        waiting.append(path + b"/")
                    continue
                try:
                    files[path] = stamp(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
    return Contents(files=files, folders=folders)


def checkout_tree(
    home: Home, top: Path, tree: str, table: Table, index: Path | None = None
) -> dict[bytes, CheckoutEntry]:
    """Make a folder contain the files of a tree; of the files provided earlier, only unchanged ones stay.

    ``index`` names a temporary file for git's index; by default it is in the snapshot store.

    Raises:
        GitError: the tree can't be written, or an object of it is missing or damaged.
    """
    top.mkdir(parents=True, exist_ok=True)
    try:
        found = scan(top)
    except OSError:  # a run locked a folder up: nothing in it is worth the trouble
        remove_in_run(top)
        top.mkdir()
        found, table = Contents(files={}, folders=[]), Table()
    index = index or temporary_index(home)
    git_directory = store_git_directory(home, index=index)
    same = table.tree == tree
    try:
        if same:
            wanted = {path: (one.mode, one.identity) for path, one in table.laid.items()}
        else:
            listed, _ = run_concurrently(
                lambda: git(git_directory, "ls-tree", "-r", "-z", tree), lambda: git(git_directory, "read-tree", tree)
            )
            wanted = dict(_entries(listed))
        good = {
            path: one
            for path, one in table.laid.items()
            if found.files.get(path) == one.stamp and wanted.get(path) == (one.mode, one.identity)
        }
        keep = good.keys() | {path for path, one in table.provided.items() if found.files.get(path) == one.stamp}
        _clear(top, found, keep - (table.provided.keys() & wanted.keys()), wanted)
        stale = [path for path in wanted if path not in good]
        if stale:
            if same:
                git(git_directory, "read-tree", tree)
            _check_out(home, index, top, stale, everything=len(stale) == len(wanted))
    finally:
        index.unlink(missing_ok=True)
    good.update(_laid(top, stale, wanted))
    return good


def _entries(listed: bytes) -> Iterator[tuple[bytes, tuple[bytes, str]]]:
    for line in listed.split(b"\0")[:-1]:
        description, _, path = line.partition(b"\t")
        mode, _, identity = description.split(b" ")
        if mode != _COMMIT:
            yield path, (mode, identity.decode())


def _clear(top: Path, found: Contents, keep: set[bytes], wanted: Iterable[bytes]) -> None:
    """Remove files that do not belong to the tree, then the folders that are not needed."""
    unwanted = found.files.keys() - keep
    needed: set[bytes] = set()
    for path in (*wanted, *keep):
        folder = path.rpartition(b"/")[0]
        while folder and folder not in needed:
            needed.add(folder)
            folder = folder.rpartition(b"/")[0]
    unneeded = sorted(set(found.folders) - needed, reverse=True)
    if not unwanted and not unneeded:
        return
    with open_tree(top.parent, (top.name,)) as tree:
        for path in sorted(unwanted):
            with suppress(FileNotFoundError):
                parent, name = tree.parent(path)
                os.unlink(name, dir_fd=parent)
        for folder in unneeded:
            with suppress(OSError):
                parent, name = tree.parent(folder)
                os.rmdir(name, dir_fd=parent)


def _check_out(home: Home, index: Path, top: Path, paths: list[bytes], *, everything: bool) -> None:
    git_directory = structs.replace(store_git_directory(home, index=index), work_tree=top)
    arguments = ("checkout-index", "--force")
    if everything:
        git(git_directory, *arguments, "--all")
    else:
        git(git_directory, *arguments, "-z", "--stdin", stdin=b"".join(path + b"\0" for path in paths))


def _laid(
    top: Path, paths: list[bytes], wanted: dict[bytes, tuple[bytes, str]]
) -> Iterator[tuple[bytes, CheckoutEntry]]:
    start = os.fsencode(top) + b"/"
    for path in paths:
        mode, identity = wanted[path]
        try:
            yield path, CheckoutEntry(mode, identity, Stamp.of(os.lstat(start + path)))
        except OSError as error:
            raise GitError(f"The run folder is incomplete: {os.fsdecode(path)}", context=str(error)) from error


def is_unchanged(top: Path, path: bytes, laid: CheckoutEntry) -> bool:
    """Tell whether a touched file still has the content and mode of the tree."""
    import hashlib

    path_on_disk = top / os.fsdecode(path)
    try:
        status = path_on_disk.lstat()
        if stat.S_ISLNK(status.st_mode):
            mode, content = b"120000", os.fsencode(os.readlink(path_on_disk))  # noqa: PTH115  # Path would tidy the text
        elif stat.S_ISREG(status.st_mode):
            mode, content = (b"100755" if status.st_mode & stat.S_IXUSR else b"100644"), path_on_disk.read_bytes()
        else:
            return False
    except OSError:
        return False
    digest = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
    return (mode, digest) == (laid.mode, laid.identity)


def wait_for_tick(folder: Path, newest: int) -> None:
    """Wait until file system timestamps are later than a time in ns, so that any later write changes the stamp."""
    probe = folder / f".tick-{os.getpid()}"
    try:
        for _ in range(_MOST_TICKS):
            probe.write_bytes(b"")
            if probe.stat().st_mtime_ns > newest:
                return
            time.sleep(0.001)
    finally:
        probe.unlink(missing_ok=True)
