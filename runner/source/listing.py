"""Lists the files of a project: tracked and not ignored files, including those of nested repositories."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec import Struct

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.checkouts import Checkout, checkout_at
from runner.source.gitcommand import GitDirectory, run_concurrently, run_git
from runner.source.snapshot_store import open_snapshot_store
from runner.source.unwanted import ENVIRONMENT_MARKS, exclusions

UNTRACKED = b"?"


class Listing(Struct, frozen=True, kw_only=True):
    """The files of one project, by the folder of their repository (``b""`` is the top one).

    Each value is the output of ``git ls-files -v -z``: a tag, a space and a path. A lower-case tag marks a file as
    "assume unchanged". ``empty`` are submodules that are not checked out.
    """

    raw: dict[bytes, bytes]
    empty: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()


class Files(Struct, frozen=True, kw_only=True):
    """A parsed listing: the tag of each path, and the environments that were left out."""

    tags: dict[bytes, bytes]
    skipped_environments: tuple[bytes, ...] = ()


class Lister(Struct, frozen=True, kw_only=True):
    """Lists the files of a folder with git; ``ignoring`` is False for archives, where no file is ignored."""

    root: Path
    home: Home
    ignoring: bool = True

    def git_directory(self, prefix: bytes) -> GitDirectory:
        """Return the repository of the files below a prefix; the snapshot store for files outside any repository."""
        folder = self.root / os.fsdecode(prefix)
        checkout = checkout_at(folder) if self.ignoring else None
        if checkout:
            return checkout.git_directory
        # git reads a missing index as an empty one, so every file is untracked.
        return GitDirectory(git_dir=open_snapshot_store(self.home), work_tree=folder, index=self.home.indexes / "none")

    def checkout(self, prefix: bytes) -> Checkout | None:
        """Return the repository at a prefix."""
        return checkout_at(self.root / os.fsdecode(prefix))

    def listing(self, known: Listing | None) -> Listing:
        """List the files of the project and of all repositories in it.

        The ``known`` repositories are listed concurrently; if nothing changed, no further repositories are searched.
        """
        prefixes = [prefix for prefix in (known.raw if known else ()) if not prefix or self.checkout(prefix)] or [b""]
        results = run_concurrently(*(partial(self._list, prefix) for prefix in prefixes))
        raw = {prefix: result[0] for prefix, result in zip(prefixes, results, strict=True)}
        problems = [text for result in results for text in result[1]]
        if known and raw == known.raw and not any(self.checkout(prefix) for prefix in known.empty):
            return Listing(raw=raw, empty=known.empty, problems=tuple(problems))
        reached: dict[bytes, bytes] = {}
        empty: list[bytes] = []
        waiting = [b""]
        while waiting:
            prefix = waiting.pop()
            if prefix not in raw:
                raw[prefix], more = self._list(prefix)
                problems += more
            reached[prefix] = raw[prefix]
            for folder in self._folders(prefix, raw[prefix]):
                (waiting if self.checkout(folder) else empty).append(folder)
        return Listing(raw=reached, empty=tuple(empty), problems=tuple(problems))

    def _list(self, prefix: bytes) -> tuple[bytes, list[str]]:
        standard = ("--exclude-standard", *exclusions(), *self._own_home(prefix)) if self.ignoring else ()
        done = run_git(self.git_directory(prefix), "ls-files", "-v", "-z", "--cached", "--others", *standard)
        if done.exit_code:
            shown = self.root / os.fsdecode(prefix)
            raise SnapshotError(f"git can't list the files of {shown}", context=done.error_text)
        problems = [line.removeprefix("warning: ") for line in done.error_text.splitlines() if "could not open" in line]
        return done.stdout, problems

    def _own_home(self, prefix: bytes) -> tuple[str, ...]:
        """Return the option that excludes proj's home if it is inside the project."""
        home, folder = self.home.root.resolve(), self.root / os.fsdecode(prefix)
        return (f"--exclude=/{home.relative_to(folder).as_posix()}/",) if folder in home.parents else ()

    def _folders(self, prefix: bytes, raw: bytes) -> Iterator[bytes]:
        """Yield the nested repositories of a listing: untracked ones end with ``/``, submodules are folders."""
        top = os.fsencode(self.root)
        for line in raw.split(b"\0"):
            path = prefix + line[2:]
            if line[:1] == UNTRACKED:
                if path.endswith(b"/"):
                    yield path
            elif line and _is_folder(os.path.join(top, path)):  # noqa: PTH118  # bytes have no Path
                yield path + b"/"


def _is_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114  # bytes have no Path


def read_listing(listing: Listing) -> Files:
    """Parse a listing into paths with tags, without nested repositories and environments."""
    tags: dict[bytes, bytes] = {}
    environments: set[bytes] = set()
    for prefix, raw in listing.raw.items():
        for line in raw.split(b"\0"):
            if not line or line.endswith(b"/"):
                continue
            path = prefix + line[2:]
            tags[path] = line[:1]
            if line[:1] == UNTRACKED and any(mark in path for mark in ENVIRONMENT_MARKS):
                environments.update(_environment_of(path))
    for prefix in listing.raw:
        tags.pop(prefix.rstrip(b"/"), None)
    for prefix in listing.empty:
        tags.pop(prefix.rstrip(b"/"), None)
    if environments:
        inside = tuple(environments)
        tags = {path: tag for path, tag in tags.items() if tag != UNTRACKED or not path.startswith(inside)}
    return Files(tags=tags, skipped_environments=tuple(sorted(environments)))


def _environment_of(path: bytes) -> Iterator[bytes]:
    parts = path.split(b"/")
    for number, part in enumerate(parts[1:], 1):
        last = number == len(parts) - 1
        if (part == b"pyvenv.cfg" and last) or (part == b"conda-meta" and not last):
            yield b"/".join(parts[:number]) + b"/"


def folders_of(paths: Iterator[bytes]) -> set[bytes]:
    """Return all folders that contain the paths, including the top one (``b""``)."""
    found = {b""}
    for path in paths:
        folder = path
        while (folder := _parent(folder)) not in found:
            found.add(folder)
    return found


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
