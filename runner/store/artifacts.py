"""Files of runs and models below a root folder, under names that can't lead out of it."""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.errors import InvalidValueError, NotFoundError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:(?=[/\\])|\\" if os.name != "nt" else r"[A-Za-z]:|\\")
_MAX_PATH = 1000
_MAX_PART = 255
PARTIAL = ".proj-partial-"
"""How the names of files begin that are still being written."""


class ArtifactInfo(Struct, frozen=True, kw_only=True):
    """A file or folder among artifacts; ``path`` is POSIX and relative to the root, ``size`` in bytes."""

    path: str
    is_dir: bool
    size: int | None = None


def check_path(path: str) -> str:
    """Return the path of an artifact, relative to its root, if it is safe; a final slash is dropped.

    Raises:
        InvalidValueError: it is absolute, has ``..`` or control characters, or hides them in an encoding.
    """
    relative = path.removesuffix("/")
    if not _is_safe(relative):
        shown = _CONTROL.sub("?", path[:120]).encode("utf-8", "replace").decode()
        raise InvalidValueError(
            f"Invalid path of an artifact: '{shown}'", hint="Use a relative path of plain names without '..'."
        )
    return relative


def _is_safe(path: str) -> bool:
    """Say whether a path is safe; a percent sign is fine as long as nobody who decodes it once more is led astray."""
    decoded = unquote(path)
    return all(_is_plain(form) for form in (path, decoded, unquote(decoded)))


def _is_plain(path: str) -> bool:
    if len(path) > _MAX_PATH or _CONTROL.search(path) or _DRIVE.match(path) or not _is_encodable(path):
        return False
    if any(part in ("", ".") or len(part.encode()) > _MAX_PART for part in path.split("/")):
        return False
    # Windows separates folders by both strokes.
    return not any(part == ".." or part.startswith(PARTIAL) for part in re.split(r"[/\\]", path))


def local_folder(uri: str) -> Path | None:
    """Return the folder that a URI of artifacts names on this machine, or None where it names none."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def list_artifacts(root: Path, path: str = "") -> tuple[ArtifactInfo, ...]:
    """Return what is directly in a folder of artifacts, by name; empty where there is no such folder.

    For the path of a file, that file is returned. Symbolic links are left out, for they may lead anywhere, and so are
    names that `check_path` refuses.
    """
    place = _inside(root, path)
    prefix = f"{check_path(path)}/" if path else ""
    try:
        if path and place.is_file():
            return (ArtifactInfo(path=prefix[:-1], is_dir=False, size=place.stat().st_size),)
        with os.scandir(place) as entries:
            found = [_info(entry, prefix) for entry in entries if not entry.name.startswith(PARTIAL)]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted((info for info in found if info is not None), key=lambda info: info.path))


def walk_artifacts(root: Path, path: str = "") -> tuple[ArtifactInfo, ...]:
    """Return every file below a folder of artifacts, by path; for the path of a file, that file."""
    found: list[ArtifactInfo] = []
    folders = [path]
    while folders:
        for info in list_artifacts(root, folders.pop()):
            if info.is_dir:
                folders.append(info.path)
            else:
                found.append(info)
    return tuple(sorted(found, key=lambda info: info.path))


def write_artifact(root: Path, path: str, pieces: Iterable[bytes]) -> int:
    """Store a file piece by piece and return its size; readers see the old content or all of the new.

    Raises:
        InvalidValueError: the path is unsafe, or is a folder's.
    """
    writer = ArtifactWriter(root, path)
    try:
        for piece in pieces:
            writer.write(piece)
    except BaseException:
        writer.discard()
        raise
    return writer.finish()


class ArtifactWriter:
    """A file that arrives in pieces, for callers that can't give an iterable (an asynchronous server).

    End with `finish`, which puts it in its place, or `discard`.
    """

    def __init__(self, root: Path, path: str) -> None:
        self._target = _inside(root, check_path(path))
        if self._target.is_dir():
            raise InvalidValueError(f"The artifact '{path}' is a folder")
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidValueError(f"The artifact '{path}' would be inside a file") from error
        self._partial = self._target.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
        self._file = self._partial.open("xb")
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._file.write(piece)
        self.size += len(piece)

    def finish(self) -> int:
        """Put the file in its place and return its size in bytes."""
        self._file.close()
        self._partial.replace(self._target)
        return self.size

    def discard(self) -> None:
        """Forget the file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


def find_artifact(root: Path, path: str) -> Path:
    """Return the place of a file among artifacts, for reading.

    Raises:
        InvalidValueError: the path is unsafe.
        NotFoundError: there is no such file.
    """
    place = _inside(root, check_path(path))
    if not place.is_file():
        raise NotFoundError(f"There is no artifact '{path}'")
    return place


def open_artifact(root: Path, path: str) -> BinaryIO:
    """Open a file among artifacts for reading.

    Raises:
        InvalidValueError: the path is unsafe.
        NotFoundError: there is no such file.
    """
    place = find_artifact(root, path)
    try:
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise NotFoundError(f"The artifact '{path}' can't be read", context=str(error)) from error
    return os.fdopen(descriptor, "rb")


def delete(root: Path, path: str = "") -> None:
    """Remove a file or a folder among artifacts, or all of them; links are removed, not followed.

    Raises:
        InvalidValueError: the path is unsafe.
        NotFoundError: there is nothing of this path.
    """
    place = _inside(root, check_path(path)) if path else root
    if place.is_dir():
        shutil.rmtree(place)
    elif place.exists():
        place.unlink()
    elif path:
        raise NotFoundError(f"There is no artifact '{path}'")


def _inside(root: Path, path: str) -> Path:
    """Return the place of a path, refusing one that a symbolic link would lead elsewhere."""
    place = root
    for part in check_path(path).split("/") if path else ():
        place /= part
        if place.is_symlink():
            raise InvalidValueError(f"The artifact '{path}' is a symbolic link, which is not followed")
    return place


def _info(entry: "os.DirEntry[str]", prefix: str) -> ArtifactInfo | None:
    if not _is_safe(entry.name):
        return None
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        return ArtifactInfo(path=prefix + entry.name, is_dir=True)
    if stat.S_ISREG(status.st_mode):
        return ArtifactInfo(path=prefix + entry.name, is_dir=False, size=status.st_size)
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
