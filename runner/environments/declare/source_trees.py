"""Computes digests of the project's own packages and copies their sources for builds."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from runner.environments.model import ProjectTree
from runner.environments.specs import LocalPackage
from runner.errors import EnvironmentSetupError
from runner.model import ProjectFiles

METADATA = r"(?i)pyproject\.toml|setup\.(py|cfg)|requirements.*\.(txt|in)|.*\.(whl|zip|gz|bz2)"
EXCLUDED_NAMES = frozenset(
    {".git", "__pycache__", ".venv", "venv", ".tox", ".nox", ".mypy_cache", ".pytest_cache", "mlruns"}
)


class FolderTree(Struct, frozen=True):
    """A frozen project folder on disk."""

    root: Path

    def digest(self, path: str) -> str:
        """Return a digest of names, contents, links and exec bits below a path."""
        digest = hashlib.sha256()
        for file in tree_files(self.root / path):
            status = file.lstat()
            link = os.readlink(file).encode() if file.is_symlink() else None  # noqa: PTH115
            content = link if link is not None else hashlib.sha256(file.read_bytes()).digest()
            name = os.fsencode(file.relative_to(self.root).as_posix())
            digest.update(b"%s\0%d\0%s\0" % (name, 2 if link is not None else bool(status.st_mode & 0o100), content))
        return digest.hexdigest()

    def folder(self) -> Path:
        """Return the folder itself."""
        return self.root

    def left_out(self) -> frozenset[Path]:
        """Return an empty set: the tree has all files of the folder."""
        return frozenset()

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None if it does not exist."""
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder; those of folders end with ``/``."""
        directory = self.root / folder
        found = sorted(directory.iterdir()) if directory.is_dir() else []
        return tuple(f"{child.name}/" if child.is_dir() else child.name for child in found)


def tree_files(path: Path) -> Iterator[Path]:
    """Yield the files and links of a folder in a fixed order, without files of tools; yield a file itself."""
    if not path.is_dir() or path.is_symlink():
        if path.is_file() or path.is_symlink():
            yield path
        return
    for child in sorted(path.iterdir()):
        if child.name not in EXCLUDED_NAMES and not child.name.endswith(".egg-info"):
            yield from tree_files(child)


def metadata_digest(files: ProjectFiles | None, path: str) -> str:
    """Return a digest of the files that declare the requirements of a package of the project."""
    if files is None:
        raise EnvironmentSetupError("the project's own packages need the frozen tree of the project")
    folder = "" if path == "." else path
    names = [name for name in files.names(folder) if re.fullmatch(METADATA, name)]
    digest = hashlib.sha256()
    for name in names or [""]:
        content = files.read(posixpath.join(folder, name).rstrip("/")) or b""
        digest.update(b"%s\0%s\0" % (os.fsencode(name), hashlib.sha256(content).digest()))
    return digest.hexdigest()


def copy_packages(tree: ProjectTree, packages: Sequence[LocalPackage], folder: Path) -> tuple[Path, ...]:
    """Copy packages of the project below ``folder``, because builds write into the folder that they build.

    Their paths relative to each other stay the same. Returns the paths of the copies.
    """
    import shutil

    root, excluded = tree.folder(), tree.left_out()

    def left_out(folder: str, names: list[str]) -> set[str]:
        tools = {name for name in names if name in EXCLUDED_NAMES or name.endswith(".egg-info")}
        return tools | {name for name in names if excluded and Path(folder, name) in excluded}

    base = folder / "source" / "in" / "a" / "deep" / "folder"
    copies = []
    for package in packages:
        target = Path(os.path.normpath(base / package.path))
        copies.append(target)
        source = root / package.path
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return tuple(copies)
