"""Reads the files of a project from a folder."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath

from runner.base.suggestions import nearest
from runner.errors import ManifestError
from runner.model import ProjectFiles

_MOST_FOLDERS = 100
"""Folders of one level below a project in which a manifest is looked for."""


def tidy_path(path: str) -> str:
    """Normalize a path: ``./envs//a.yaml`` becomes ``envs/a.yaml``."""
    return normpath(path) if path else path


def near_file(path: str, files: ProjectFiles) -> str | None:
    """Return a hint with a similar file in the same folder, or a file of the same name elsewhere, or None."""
    folder, _, name = path.rpartition("/")
    beside = [other for other in files.names(folder) if not other.endswith("/")]
    near = nearest(name, beside)
    if near is not None:
        return f"did you mean '{folder}/{near}'?" if folder else f"did you mean '{near}'?"
    if folder and name in files.names():
        return f"'{name}' is in the project folder itself"
    folders = [other.rstrip("/") for other in files.names() if other.endswith("/") and not other.startswith(".")]
    found = [f"{other}/{near}" for other in folders if (near := _same_stem(name, files.names(other)))]
    return f"did you mean '{found[0]}'?" if found else None


def folders_with(name: str, files: ProjectFiles) -> tuple[str, ...]:
    """Return the folders one or two levels below a project folder that have a file with this name in lower case."""
    first = _folders(files, "")
    second = [inner for folder in first for inner in _folders(files, folder)]
    looked = [*first, *second][:_MOST_FOLDERS]
    return tuple(folder for folder in looked if any(other.lower() == name for other in files.names(folder)))


def _folders(files: ProjectFiles, folder: str) -> list[str]:
    names = [name.rstrip("/") for name in files.names(folder) if name.endswith("/") and not name.startswith(".")]
    return [f"{folder}/{name}" if folder else name for name in names[:_MOST_FOLDERS]]


def _same_stem(name: str, names: Iterable[str]) -> str | None:
    """Return the name itself, or a name that differs only in extension or letter case, or None."""
    stem = name.rpartition(".")[0].lower()
    same = [other for other in names if stem and other.rpartition(".")[0].lower() == stem]
    return name if name in same else next(iter(same), None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


class FolderFiles:
    """The files of a project folder.

    ``..`` reaches the git work tree of the folder; outside a work tree it reaches nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._boundary: Path | None = None

    @property
    def boundary(self) -> Path:
        """The outermost folder that a path may reach: the git work tree, else the project folder."""
        if self._boundary is None:
            around = (self.root, *self.root.parents)
            self._boundary = next((folder for folder in around if (folder / ".git").exists()), self.root)
        return self._boundary

    def read(self, path: str) -> bytes | None:
        """Return the content of a regular file, or None if there is none.

        Raises:
            ManifestError: the file exists and can't be read.
        """
        location = self._locate(path)
        if location is None:
            return None
        try:
            if not stat.S_ISREG(location.stat().st_mode):
                return None
            return location.read_bytes()
        except PermissionError as error:
            raise ManifestError(f"'{path}' can't be read: {error.strerror}", context=str(location)) from error
        except (OSError, ValueError):
            return None

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, folders with a final ``/``; empty if the folder does not exist."""
        location = self._locate(folder or ".")
        if location is None:
            return ()
        try:
            with os.scandir(location) as entries:
                return tuple(sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries))
        except (OSError, ValueError):
            return ()

    def _locate(self, path: str) -> Path | None:
        """Resolve a path; return None if it leaves the repository."""
        if not path or path.startswith("/"):
            return None
        tidy = normpath(path)
        if not tidy.startswith(".."):
            return self.root / tidy
        location = Path(os.path.normpath(self.root / tidy))
        return location if location.is_relative_to(self.boundary) else None
