"""Reads and writes the files of runs and models below a root folder.

All access to artifacts uses this module: it follows no link in any path component, including the root.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.base.files import PARTIAL
from runner.base.safe_paths import LinkError, folder_at, open_file, remove_at, split_root, status_at
from runner.errors import InvalidValueError, NotFoundError
from runner.store import staging
from runner.store.artifact_paths import MAX_PATH, as_text, check_path, names_of

__all__ = ["check_path"]

_PIECE = 1 << 20
_DEEPEST = 200
"""Maximum folder depth."""


class ArtifactInfo(Struct, frozen=True, kw_only=True):
    """A file or folder among artifacts; ``path`` is POSIX and relative to the root, ``size`` in bytes."""

    path: str
    is_dir: bool
    size: int | None = None
    fault: str | None = None
    """The reason why a server's entry with an invalid name can't be read."""


class FoundFile(Struct, frozen=True, kw_only=True):
    """A regular file among artifacts: its path, the names of its components on disk, and its size in bytes.

    The path may exceed the limit for clients; the names always locate the file.
    """

    path: str
    names: tuple[str, ...]
    size: int


class Omission(Struct, frozen=True, kw_only=True):
    """An entry that is not listed as a file, with the reason."""

    path: str
    reason: str


class Survey(Struct, frozen=True, kw_only=True):
    """All entries below an artifact folder, by path."""

    files: tuple[FoundFile, ...]
    omissions: tuple[Omission, ...]


def local_folder(uri: str) -> Path | None:
    """Return the local folder of an artifact URI, or None if it is not local."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def list_artifacts(root: Path, path: str = "") -> tuple[ArtifactInfo, ...]:
    """Return the entries of an artifact folder, by name; empty if the folder does not exist.

    For the path of a file, that file is returned. Symbolic links are skipped, because they may lead out of the folder;
    names that are not plain text are escaped.

    Raises:
        InvalidValueError: the path is unsafe or contains a link.
    """
    names = names_of(path) if path else ()
    prefix = f"{check_path(path)}/" if path else ""
    try:
        with folder_at(root, names) as folder, os.scandir(folder) as entries:
            found = [_info(entry, prefix) for entry in entries if not entry.name.startswith(PARTIAL)]
    except NotADirectoryError:
        size = size_of(root, names)
        return () if size is None else (ArtifactInfo(path=prefix[:-1], is_dir=False, size=size),)
    except FileNotFoundError:
        return ()
    return tuple(sorted((info for info in found if info is not None), key=lambda info: info.path))


def survey(root: Path, path: str = "") -> Survey:
    """Return every file below an artifact folder, and the entries that are neither files nor folders.

    Raises:
        InvalidValueError: the path is unsafe or contains a link.
    """
    files: list[FoundFile] = []
    omissions: list[Omission] = []
    waiting = [(names_of(path) if path else (), check_path(path) if path else "")]
    while waiting:
        names, text = waiting.pop()
        reason = None
        if len(names) > _DEEPEST:
            reason = f"it is nested in more than {_DEEPEST} folders"
        else:
            try:
                waiting += _look(root, names, text, files, omissions)
            except NotADirectoryError:
                size = size_of(root, names)
                files += [] if size is None else [FoundFile(path=text, names=names, size=size)]
            except FileNotFoundError:  # the entry was removed in the meantime
                continue
            except PermissionError as error:
                reason = f"it can't be read ({error.strerror})"
        if reason is not None:
            omissions.append(Omission(path=text, reason=reason))
    return Survey(
        files=tuple(sorted(files, key=lambda file: file.path)),
        omissions=tuple(sorted(omissions, key=lambda omission: omission.path)),
    )


def size_of(root: Path, names: Sequence[str]) -> int | None:
    """Return the size of an artifact in bytes, or None if there is no such file."""
    found = status_of(root, names)
    return None if found is None else found.st_size


def status_of(root: Path, names: Sequence[str]) -> os.stat_result | None:
    """Return the file status of an artifact, or None if there is no such file."""
    with suppress(FileNotFoundError, NotADirectoryError), folder_at(root, names[:-1]) as folder:
        found = status_at(folder, names[-1])
        return found if found is not None and stat.S_ISREG(found.st_mode) else None
    return None


def write_artifact(root: Path, path: str, pieces: Iterable[bytes]) -> int:
    """Write an artifact from pieces and return its size; readers see the old or the new content, never a part.

    Raises:
        InvalidValueError: the path is unsafe, is a folder, or contains a link.
    """
    return write_file(root, names_of(path), pieces)


def write_file(root: Path, names: Sequence[str], pieces: Iterable[bytes]) -> int:
    """Write a file given by its names on disk, as `write_artifact` does."""
    writer = FileWriter(root, names)
    try:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


class FileWriter:
    """A file written in pieces, for callers without an iterable (an asynchronous server).

    End with `finish`, which publishes the file, or `discard`.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root = root
        self._names = tuple(names)
        self._shown = "/".join(as_text(name) for name in names)
        with self._folder(create=True) as folder:
            self._check(folder)
            self._partial = staging.PartialFile(root, folder)
        self.size = 0

    @property
    def descriptor(self) -> int:
        """The file descriptor; data written through it does not count in the size."""
        return self._partial.descriptor

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes."""
        self._partial.write(piece)
        self.size += len(piece)

    def clone(self, source: BinaryIO) -> bool:
        """Take the content of a file by sharing its blocks; return False if the file system can't."""
        if not self._partial.clone(source):
            return False
        source.seek(0, os.SEEK_END)
        self.size = source.tell()
        return True

    def copy(self, source: BinaryIO) -> None:
        """Append the rest of an open file."""
        while piece := source.read(_PIECE):
            self.write(piece)

    def finish(self, modified_ns: int | None = None) -> int:
        """Publish the file and return its size in bytes; ``modified_ns`` sets its modification time."""
        with self._folder(create=True) as folder:
            self._check(folder)
            self._partial.move(folder, self._names[-1], modified_ns)
        return self.size

    def discard(self) -> None:
        """Delete the partial file."""
        self._partial.discard()

    def _folder(self, *, create: bool) -> "_Opened":
        return _Opened(self._root, self._names[:-1], self._shown, create=create)

    def _check(self, folder: int) -> None:
        found = status_at(folder, self._names[-1])
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise InvalidValueError(f"The artifact '{self._shown}' is a folder")
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise LinkError(f"The artifact '{self._shown}' is a symbolic link, which is not followed")


class ArtifactWriter(FileWriter):
    """Writes a file given by its artifact path.

    Raises:
        InvalidValueError: the path is unsafe, is a folder, or contains a link.
    """

    def __init__(self, root: Path, path: str) -> None:
        super().__init__(root, names_of(path))


def open_artifact(root: Path, path: str) -> BinaryIO:
    """Open an artifact for reading.

    Raises:
        InvalidValueError: the path is unsafe or contains a link.
        NotFoundError: there is no such file.
    """
    return open_found(root, names_of(path))


def open_found(root: Path, names: Sequence[str]) -> BinaryIO:
    """Open a file given by its names on disk, as `open_artifact` does."""
    try:
        with folder_at(root, names[:-1]) as folder:
            return open_file(folder, names[-1])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no artifact '{_shown(names)}'") from error
    except PermissionError as error:
        raise NotFoundError(f"The artifact '{_shown(names)}' can't be read", context=error.strerror) from error


def delete(root: Path, path: str = "") -> None:
    """Remove an artifact, a folder of artifacts, or all of them; links are removed, not followed.

    Raises:
        InvalidValueError: the path is unsafe or contains a link.
        NotFoundError: the path does not exist.
    """
    if path:
        names = names_of(path)
        anchor = root
    else:
        anchor, own = split_root(root)
        anchor, names = (anchor, own) if own else (root.parent, (root.name,))
    try:
        with folder_at(anchor, names[:-1]) as folder:
            remove_at(folder, names[-1])
    except (FileNotFoundError, NotADirectoryError) as error:
        if path:
            raise NotFoundError(f"There is no artifact '{check_path(path)}'") from error


class _Opened:
    """Opens an artifact folder for the duration of a block; a file as a path component is an `InvalidValueError`."""

    def __init__(self, root: Path, names: Sequence[str], shown: str, *, create: bool) -> None:
        self._manager = folder_at(root, names, create=create)
        self._shown = shown

    def __enter__(self) -> int:
        try:
            return self._manager.__enter__()
        except NotADirectoryError as error:
            raise InvalidValueError(f"The artifact '{self._shown}' would be inside a file") from error

    def __exit__(self, *about: object) -> None:
        self._manager.__exit__(*about)  # type: ignore[arg-type]


def _look(
    root: Path, names: tuple[str, ...], text: str, files: list[FoundFile], omissions: list[Omission]
) -> list[tuple[tuple[str, ...], str]]:
    """Sort the entries of a folder into files and omissions, and return its subfolders."""
    folders = []
    prefix = f"{text}/" if text else ""
    with folder_at(root, names) as folder, os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PARTIAL):
                continue
            path, inside = prefix + as_text(entry.name), (*names, entry.name)
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(mode.st_mode):
                folders.append((inside, path))
            elif stat.S_ISREG(mode.st_mode):
                files.append(FoundFile(path=path, names=inside, size=mode.st_size))
            else:
                kind = "a symbolic link" if stat.S_ISLNK(mode.st_mode) else "a pipe, a socket or a device"
                omissions.append(Omission(path=path, reason=f"it is {kind}"))
    return folders


def _shown(names: Sequence[str]) -> str:
    return "/".join(as_text(name) for name in names)[:MAX_PATH]


def _info(entry: "os.DirEntry[str]", prefix: str) -> ArtifactInfo | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    path = prefix + as_text(entry.name)
    if stat.S_ISDIR(status.st_mode):
        return ArtifactInfo(path=path, is_dir=True)
    if stat.S_ISREG(status.st_mode):
        return ArtifactInfo(path=path, is_dir=False, size=status.st_size)
    return None
