"""Copies artifacts into the store; keeps existing files and follows no links."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from runner.base import progress
from runner.errors import InvalidValueError, NotFoundError, TransferError
from runner.store.artifacts import FileWriter, FoundFile, open_found, status_of, survey

_PIECE = 1 << 20

Warn = Callable[[str], None]


class Copied(Struct, frozen=True):
    """The result of copying: new files, new bytes, and the number of skipped links and special files."""

    files: int = 0
    size: int = 0
    left_out: int = 0

    def __add__(self, other: "Copied") -> "Copied":
        return Copied(self.files + other.files, self.size + other.size, self.left_out + other.left_out)


def copy_artifacts(source: Path, target: Path, warn: Warn, digests: dict[str, str]) -> Copied:
    """Copy the files below a folder that are missing from the target or differ there in size or time.

    Links and unsafe names are skipped with a warning. ``digests`` receives the SHA-256 of the copied files, by their
    path on disk.

    Raises:
        TransferError: the target can't be written to.
    """
    done = Copied()
    try:
        found = survey(source)
    except (InvalidValueError, OSError) as error:
        raise TransferError("A folder can't be read", context=f"{source}: {error}") from error
    for one in found.omissions:
        warn(f"Skipped: {source / one.path}: {one.reason}")
        done += Copied(left_out=1)
    for file in found.files:
        done += _copy_or_warn(source, file, target, warn, digests)
    return done


def _copy_or_warn(source: Path, found: FoundFile, target: Path, warn: Warn, digests: dict[str, str]) -> Copied:
    try:
        return _copy(source, found, target, digests)
    except (InvalidValueError, NotFoundError) as error:
        warn(f"Skipped: {error.message} in {source}")
        return Copied(left_out=1)
    except OSError as error:
        raise _unwritable(target, error) from error


def _copy(source: Path, found: FoundFile, target: Path, digests: dict[str, str]) -> Copied:
    with open_found(source, found.names) as file:
        there = os.fstat(file.fileno())
        here = status_of(target, found.names)
        if here is not None and (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return Copied()
        writer = FileWriter(target, found.names)
        digest = hashlib.sha256()
        progress.begin(there.st_size)
        try:
            while piece := file.read(_PIECE):
                digest.update(piece)
                writer.write(piece)
                progress.advance(len(piece))
            # The modification time shows a later import that the file is unchanged.
            copied = Copied(1, writer.finish(there.st_mtime_ns))
        except BaseException:
            writer.discard()
            raise
        digests["/".join(found.names)] = digest.hexdigest()
        return copied


def _unwritable(target: Path, error: OSError) -> TransferError:
    hint = "Free some space, then import again." if error.errno == errno.ENOSPC else None
    return TransferError("An artifact can't be written", context=f"{target}: {error.strerror}", hint=hint)
