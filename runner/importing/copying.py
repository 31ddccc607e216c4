"""Copying artifacts into our store: what is there already stays, and nothing leads out of the folder."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from runner.errors import InvalidValueError, TransferError
from runner.importing.files import open_regular
from runner.store.artifacts import ArtifactWriter, check_path

_PIECE = 1 << 20
_MAX_DEPTH = 60

Warn = Callable[[str], None]


class Copied(Struct, frozen=True):
    """What copying did: files and bytes that are new, and how many links and odd files were left out."""

    files: int = 0
    size: int = 0
    left_out: int = 0

    def __add__(self, other: "Copied") -> "Copied":
        return Copied(self.files + other.files, self.size + other.size, self.left_out + other.left_out)


def copy_artifacts(source: Path, target: Path, warn: Warn) -> Copied:
    """Copy the files below a folder that are not at the target, or differ there in size or time.

    Links are not followed, and a name that could lead elsewhere is left out; both are told.

    Raises:
        TransferError: the target can't be written to.
    """
    done = Copied()
    for name, path in _files(source, "", 0):
        if path is None:
            warn(f"Left out: {source / name} is a link or no file")
            done += Copied(left_out=1)
            continue
        try:
            done += _copy(name, path, target)
        except InvalidValueError as error:
            warn(f"Left out: {error.message} in {source}")
            done += Copied(left_out=1)
        except TransferError as error:
            warn(f"Left out: {error.context}")
            done += Copied(left_out=1)
        except OSError as error:
            raise _unwritable(target, error) from error
    return done


def _copy(name: str, path: Path, target: Path) -> Copied:
    check_path(name)
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        place = target / name
        if place.is_file() and not place.is_symlink():
            here = place.stat()
            if (here.st_size, here.st_mtime_ns) == (found.st_size, found.st_mtime_ns):
                return Copied()
        writer = ArtifactWriter(target, name)
        try:
            while piece := file.read(_PIECE):
                writer.write(piece)
        except BaseException:
            writer.discard()
            raise
        size = writer.finish()
    # The time says later that the file is the same still.
    os.utime(place, ns=(found.st_mtime_ns, found.st_mtime_ns))
    return Copied(1, size)


def _files(folder: Path, before: str, depth: int) -> Iterator[tuple[str, Path | None]]:
    """Yield name and place of every file below a folder; None is the place of what must not be read."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise TransferError("A folder can't be read", context=f"{folder}: {error.strerror}") from error
    for entry in found:
        name = before + entry.name
        if entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
            yield from _files(Path(entry.path), f"{name}/", depth + 1)
        else:
            yield name, Path(entry.path) if entry.is_file(follow_symlinks=False) else None


def _unwritable(target: Path, error: OSError) -> TransferError:
    hint = "Free some space, then import again." if error.errno == errno.ENOSPC else None
    return TransferError("An artifact can't be written", context=f"{target}: {error.strerror}", hint=hint)
