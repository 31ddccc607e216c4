"""Gives access to the frozen tree of a run for building the project's own packages."""

from pathlib import Path
from posixpath import join, normpath

from msgspec import Struct

from runner.source.run_folder import RunFolder
from runner.source.snapshot import Snapshot
from runner.source.tree import TreeFiles


class FrozenTree(Struct, frozen=True, kw_only=True):
    """A frozen tree and the run folder that it is checked out in."""

    snapshot: Snapshot
    files: TreeFiles
    run_folder: RunFolder

    def digest(self, path: str) -> str:
        """Return git's id of a folder or file, with the digests of its files that are too large to be stored."""
        location = normpath(join(self.snapshot.code.subdirectory, path))
        top = "" if location == "." else f"{location}/"
        large = sorted(f"{one.path} {one.sha256}" for one in self.snapshot.large if f"{one.path}/".startswith(top))
        return "\n".join([self.files.identity(path) or "absent", *large])

    def folder(self) -> Path:
        """Return the project folder of the run."""
        return self.run_folder.project

    def left_out(self) -> frozenset[Path]:
        """Return the files in the run folder that are not in the tree, such as files that git ignores."""
        return frozenset(path for path, _ in self.run_folder.provided)
