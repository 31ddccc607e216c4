"""Files of runs and models below a root folder, under names that can't lead out of it.

Everybody who lists, reads, writes or removes artifacts does it here: no link is followed on the way, the root included.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.base.safe_paths import LinkError, folder_at, open_file, remove_at, split_root, status_at
from runner.errors import InvalidValueError, NotFoundError
from runner.store import staging
from runner.store.artifact_paths import MAX_PATH, PARTIAL, as_text, check_path, names_of

__all__ = ["PARTIAL", "check_path"]

_PIECE = 1 << 20
_DEEPEST = 200
"""Folders in one another that are looked into."""


class ArtifactInfo(Struct, frozen=True, kw_only=True):
    """A file or folder among artifacts; ``path`` is POSIX and relative to the root, ``size`` in bytes."""

    path: str
    is_dir: bool
    size: int | None = None
    fault: str | None = None
    """Why it can't be read, of what a server lists under a wrong name."""


class FoundFile(Struct, frozen=True, kw_only=True):
    """A regular file among artifacts: its path, the names of its components on disk, and its size in bytes.

    The path may be longer than a client may name; the names always lead to the file.
    """

    path: str
    names: tuple[str, ...]
    size: int


class Omission(Struct, frozen=True, kw_only=True):
    """Something that is not listed as a file, and why."""

    path: str
    reason: str


class Survey(Struct, frozen=True, kw_only=True):
    """All that is below a folder of artifacts, by path."""

    files: tuple[FoundFile, ...]
    omissions: tuple[Omission, ...]


def local_folder(uri: str) -> Path | None:
    """Return the folder that a URI of artifacts names on this machine, or None where it names none."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def list_artifacts(root: Path, path: str = "") -> tuple[ArtifactInfo, ...]:
    """Return what is directly in a folder of artifacts, by name; empty where there is no such folder.

    For the path of a file, that file is returned. Symbolic links are left out, for they may lead anywhere; names that
    are no plain text are escaped.

    Raises:
        InvalidValueError: the path is unsafe, or a link is on the way.
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
    """Return every file below a folder of artifacts, and what is there besides files and folders.

    Raises:
        InvalidValueError: the path is unsafe, or a link is on the way to the folder.
    """
    files: list[FoundFile] = []
    omissions: list[Omission] = []
    waiting = [(names_of(path) if path else (), check_path(path) if path else "")]
    while waiting:
        names, text = waiting.pop()
        reason = None
        if len(names) > _DEEPEST:
            reason = f"it is in more than {_DEEPEST} folders in one another"
        else:
            try:
                waiting += _look(root, names, text, files, omissions)
            except NotADirectoryError:
                size = size_of(root, names)
                files += [] if size is None else [FoundFile(path=text, names=names, size=size)]
            except FileNotFoundError:  # it has just been removed
                continue
            except PermissionError as error:
                reason = f"it can't be read ({error.strerror})"
        if reason is not None:
            omissions.append(Omission(path=text, reason=reason))
    return Survey(
        files=tuple(sorted(files, key=lambda file: file.path)),
        omissions=tuple(sorted(omissions, key=lambda omission: omission.path)),
    )


def walk_artifacts(root: Path, path: str = "") -> tuple[ArtifactInfo, ...]:
    """Return every file below a folder of artifacts, by path; for the path of a file, that file."""
    return tuple(ArtifactInfo(path=file.path, is_dir=False, size=file.size) for file in survey(root, path).files)


def size_of(root: Path, names: Sequence[str]) -> int | None:
    """Return the bytes of a file among artifacts, or None where there is no such file."""
    found = status_of(root, names)
    return None if found is None else found.st_size


def status_of(root: Path, names: Sequence[str]) -> os.stat_result | None:
    """Return what the system says of a file among artifacts, or None where there is no such file."""
    with suppress(FileNotFoundError, NotADirectoryError), folder_at(root, names[:-1]) as folder:
        found = status_at(folder, names[-1])
        return found if found is not None and stat.S_ISREG(found.st_mode) else None
    return None


def write_artifact(root: Path, path: str, pieces: Iterable[bytes]) -> int:
    """Store a file piece by piece and return its size; readers see the old content or all of the new.

    Raises:
        InvalidValueError: the path is unsafe, or is a folder's, or a link is on the way.
    """
    return write_file(root, names_of(path), pieces)


def write_file(root: Path, names: Sequence[str], pieces: Iterable[bytes]) -> int:
    """Store a file of these names on disk, as `write_artifact` does."""
    writer = FileWriter(root, names)
    try:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


class FileWriter:
    """A file that arrives in pieces, for callers that can't give an iterable (an asynchronous server).

    End with `finish`, which puts it in its place, or `discard`.
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
        """What the system writes to; what comes that way is not in the size."""
        return self._partial.descriptor

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes."""
        self._partial.write(piece)
        self.size += len(piece)

    def clone(self, source: BinaryIO) -> bool:
        """Take the content of a file over by sharing its blocks; False where the file system can't."""
        if not self._partial.clone(source):
            return False
        source.seek(0, os.SEEK_END)
        self.size = source.tell()
        return True

    def copy(self, source: BinaryIO) -> None:
        """Append what is still to be read of a file."""
        while piece := source.read(_PIECE):
            self.write(piece)

    def finish(self, modified_ns: int | None = None) -> int:
        """Put the file in its place and return its size in bytes; it may keep the time of another."""
        with self._folder(create=True) as folder:
            self._check(folder)
            self._partial.move(folder, self._names[-1], modified_ns)
        return self.size

    def discard(self) -> None:
        """Forget the file."""
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
    """The same for the path of an artifact.

    Raises:
        InvalidValueError: the path is unsafe, or is a folder's, or a link is on the way.
    """

    def __init__(self, root: Path, path: str) -> None:
        super().__init__(root, names_of(path))


def open_artifact(root: Path, path: str) -> BinaryIO:
    """Open a file among artifacts for reading.

    Raises:
        InvalidValueError: the path is unsafe, or a link is on the way.
        NotFoundError: there is no such file.
    """
    return open_found(root, names_of(path))


def open_found(root: Path, names: Sequence[str]) -> BinaryIO:
    """Open a file of these names on disk, as `open_artifact` does."""
    try:
        with folder_at(root, names[:-1]) as folder:
            return open_file(folder, names[-1])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no artifact '{_shown(names)}'") from error
    except PermissionError as error:
        raise NotFoundError(f"The artifact '{_shown(names)}' can't be read", context=error.strerror) from error


def delete(root: Path, path: str = "") -> None:
    """Remove a file or a folder among artifacts, or all of them; links are removed, not followed.

    Raises:
        InvalidValueError: the path is unsafe, or a link is on the way.
        NotFoundError: there is nothing of this path.
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
    """A folder of artifacts that is open for a moment; a file on the way to it is an error of ours."""

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
    """Sort what is in a folder and return the folders in it."""
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
