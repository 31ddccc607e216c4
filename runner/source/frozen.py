"""The frozen tree of a run as what packages of the project are built from."""

from pathlib import Path
from posixpath import join, normpath

from msgspec import Struct

from runner.source.run_folder import RunFolder
from runner.source.snapshot import Snapshot
from runner.source.tree import TreeFiles


class FrozenTree(Struct, frozen=True, kw_only=True):
    """A frozen tree together with the folder in which it is laid out."""

    snapshot: Snapshot
    files: TreeFiles
    laid_out: RunFolder

    def digest(self, path: str) -> str:
        """Return git's id of a folder or file, with the digests of files in it that were too large to be stored."""
        place = normpath(join(self.snapshot.code.subdirectory, path))
        top = "" if place == "." else f"{place}/"
        large = sorted(f"{one.path} {one.sha256}" for one in self.snapshot.large if f"{one.path}/".startswith(top))
        return "\n".join([self.files.identity(path) or "absent", *large])

    def folder(self) -> Path:
        """Return the project folder of the run."""
        return self.laid_out.project

    def left_out(self) -> frozenset[Path]:
        """Return what lies in that folder and is not of the tree, such as files that git ignores."""
        return frozenset(place for place, _ in self.laid_out.provided)
