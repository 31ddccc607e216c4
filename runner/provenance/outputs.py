"""Digests the outputs of a run, and keeps them as artifacts up to a size limit."""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import BinaryIO

from msgspec import Struct

from runner.base.files import sha256_from
from runner.base.plurals import counted
from runner.base.safe_paths import LinkError, OpenTree, folder_at, open_file, open_tree, status_at
from runner.errors import InvalidValueError
from runner.model import FileRecord
from runner.store.artifacts import FileWriter

ABOVE = "_above_"
"""Replaces ``..`` in artifact paths of outputs that are in the repository but outside the project folder."""

LOGGED_ITSELF = "An artifact of this name was logged by the run itself"
"""Beginning of the notice about outputs whose artifact path was taken by an artifact of the script."""
_SHOWN = 5


class OutputLimits(Struct, frozen=True, kw_only=True):
    """Limits of stored outputs: bytes of one file, bytes and number of all; ``most_listed`` files are digested."""

    file_size: int = 1 << 30
    total_size: int = 4 << 30
    most_kept: int = 10_000
    most_listed: int = 20_000


class OutputFolder(Struct, frozen=True, kw_only=True):
    """The folder that outputs are in: ``top`` is the folder of the repository, and no link below it is followed.

    If ``is_given_up``, the folder is removed afterwards, so files may be moved instead of copied.
    """

    project: Path
    top: Path
    is_given_up: bool = False


class Outputs(Struct, frozen=True, kw_only=True):
    """The outputs of a run; ``kept`` has the digests of the outputs that were stored, by artifact path."""

    records: tuple[FileRecord, ...] = ()
    kept: Mapping[str, str] = {}
    notices: tuple[str, ...] = ()


def collect_outputs(
    source: OutputFolder,
    paths: Sequence[str],
    destination: Path,
    limits: OutputLimits | None = None,
    *,
    name: Callable[[str], str] | None = None,
) -> Outputs:
    """Digest files of a project folder and store them in a destination folder; the notices name omissions with reasons.

    ``paths`` are relative to the project folder. Nothing that is there already is overwritten: what the run logged
    itself stays. ``name`` takes secrets out of paths.

    Raises:
        OSError: the folder can't be opened.
    """
    limits = limits or OutputLimits()
    if not paths:
        return Outputs()
    with open_tree(source.top.parent, (source.top.name,)) as tree:
        keeper = _Keeper(tree, source, destination, limits, name)
        records = [record for path in paths[: limits.most_listed] if (record := keeper.take(path))]
    notices = [
        f"{reason}: " + ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for reason, names in keeper.omissions.items()
    ]
    if len(paths) > limits.most_listed:
        more = counted(len(paths) - limits.most_listed, "output")
        notices.append(f"Not looked at: {more} beyond the first {limits.most_listed:,}")
    return Outputs(records=tuple(records), kept=keeper.kept, notices=tuple(notices))


def kept_as(path: str) -> str:
    """Return the path among the artifacts of an output, given by its path relative to the project folder."""
    return "/".join(ABOVE if part == ".." else part for part in PurePosixPath(path).parts)


class _Keeper:
    def __init__(
        self,
        tree: OpenTree,
        source: OutputFolder,
        destination: Path,
        limits: OutputLimits,
        name: Callable[[str], str] | None,
    ) -> None:
        self._tree = tree
        self._subdirectory = relpath(source.project, source.top)
        self._destination = destination
        self._limits = limits
        self._move = source.is_given_up
        self._name = name
        self._given: set[str] = set()
        self._space_left = limits.total_size
        self.kept: dict[str, str] = {}
        self.omissions: dict[str, list[str]] = {}

    def take(self, path: str) -> FileRecord | None:
        """Digest one file, and store it if the limits allow; return None if it can't be read."""
        try:
            folder, name = self._tree.parent(normpath(f"{self._subdirectory}/{path}"))
            status = status_at(folder, name)
            if status is not None and not stat.S_ISREG(status.st_mode):
                kind = "links" if stat.S_ISLNK(status.st_mode) else "pipes, sockets, devices or folders"
                self._leave(f"Outputs that are {kind} are not kept", path)
                return None
            with open_file(folder, name) as file:
                return self._take(path, file, (folder, name))
        except LinkError:
            self._leave("Outputs in folders that are links are not kept", path)
        except OSError as error:
            self._leave(f"Outputs that can't be read ({error.strerror})", path)
        return None

    def _take(self, path: str, file: BinaryIO, source: tuple[int, str]) -> FileRecord:
        shown = self._without_secrets(path)
        size = os.fstat(file.fileno()).st_size
        record = FileRecord(path=_as_text(shown), size=size, sha256=sha256_from(file))
        if size > self._limits.file_size:
            self._leave(f"Outputs over {self._limits.file_size:,} bytes are recorded by digest, not kept", shown)
        elif size > self._space_left or len(self.kept) >= self._limits.most_kept:
            self._leave("The size limit of all outputs is reached; recorded by digest, not kept", shown)
        else:
            file.seek(0)
            self._keep(shown, file, source, record)
        return record

    def _without_secrets(self, path: str) -> str:
        """Return the artifact path of an output; a number distinguishes paths that differ only in secrets."""
        named = path if self._name is None else self._name(path)
        if named == path:
            return path
        found = next(one for n in count() if (one := f"{named}.{n}" if n else named) not in self._given)
        self._given.add(found)
        return found

    def _leave(self, reason: str, path: str) -> None:
        self.omissions.setdefault(reason, []).append(_as_text(path))

    def _keep(self, path: str, file: BinaryIO, source: tuple[int, str], record: FileRecord) -> None:
        name = kept_as(path)
        try:
            was_free = self._transfer(file, source, tuple(name.split("/")))
        except InvalidValueError as error:  # the command made a link or a file there
            self._leave(f"Outputs could not be kept ({error.message})", path)
        except OSError as error:
            self._leave(f"Outputs could not be kept ({error.strerror})", path)
        else:
            if was_free:
                self._space_left -= record.size
                self.kept[name] = record.sha256
            else:
                self._leave(f"{LOGGED_ITSELF} and stays", path)

    def _transfer(self, file: BinaryIO, source: tuple[int, str], names: tuple[str, ...]) -> bool:
        """Store an open file under these names if they are free; return whether they were."""
        with folder_at(self._destination, names[:-1], create=True) as folder:
            if status_at(folder, names[-1]) is not None:
                return False
        writer = FileWriter(self._destination, names)
        try:
            if writer.clone(file) or not (self._move and self._moved(file, source, names)):
                writer.copy(file)
                writer.finish()
        finally:
            writer.discard()
        return True

    def _moved(self, file: BinaryIO, source: tuple[int, str], names: tuple[str, ...]) -> bool:
        """Move the file that is open; a file that has other names stays theirs, so it is copied."""
        opened = os.fstat(file.fileno())
        if opened.st_nlink != 1:
            return False
        origin, name = source
        with folder_at(self._destination, names[:-1]) as folder:
            try:
                # The folder's own name for the file goes away with the folder, or before anything is laid out there.
                os.link(name, names[-1], src_dir_fd=origin, dst_dir_fd=folder, follow_symlinks=False)
            except OSError:  # another file system, or one without hard links
                return False
            if not _is_file(opened, status_at(folder, names[-1])):  # it was replaced since it was read
                os.unlink(names[-1], dir_fd=folder)
                return False
        if _is_file(opened, status_at(origin, name)):
            os.unlink(name, dir_fd=origin)
        return True


def _is_file(opened: os.stat_result, found: os.stat_result | None) -> bool:
    """Return whether an entry of a folder is the file that is open, with at most one name more."""
    if found is None or found.st_nlink > 2:  # noqa: PLR2004
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _as_text(path: str) -> str:
    """Return a path as text that can be stored, whatever bytes it is made of."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
