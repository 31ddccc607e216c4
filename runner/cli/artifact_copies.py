"""Copies the files kept with a run into a folder, after comparing them with their recorded digests."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from runner.cli.text import printable
from runner.errors import InvalidValueError, NotFoundError, ProjError, TransferError, UnreachableError
from runner.runs.reader import RunArtifact, RunArtifacts
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import Omission, open_found, size_of, write_file
from runner.store.staging import collect_abandoned

_Result = TypeVar("_Result")

_PIECE = 1 << 20
MAX_NAMED = 10
"""Files that a message names."""
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the target folder that would affect every further file as well."""


class Copied(Struct, kw_only=True):
    """The result: files that are in the folder now, number and bytes of those that are new, and omitted files."""

    files: list[RunArtifact]
    omissions: list[Omission]
    copied: int = 0
    size: int = 0


def choose_files(kept: RunArtifacts, run: str, path: str) -> RunArtifacts:
    """Return the files at a path, or all without a path.

    Raises:
        NotFoundError: there are none.
    """
    names = tuple(path.split("/")) if path else ()
    beginning = f"{path}/" if path else ""
    # PATH can be the name on disk or the listed name.
    files = [file for file in kept.files if _matches(file, path, names)]
    omissions = [one for one in kept.omissions if one.path == path or one.path.startswith(beginning)]
    if not files and not omissions:
        raise NotFoundError(
            f"The run '{printable(run)}' has no artifact '{printable(path)}'" if path else "This run has no artifacts",
            hint=_hint(kept.files) if path else None,
        )
    return RunArtifacts(files=tuple(files), omissions=tuple(omissions))


def _hint(files: Sequence[RunArtifact]) -> str:
    names = ", ".join(printable(file.name) for file in files[:MAX_NAMED])
    return f"Its artifacts are {names}{', …' if len(files) > MAX_NAMED else ''}." if names else "It has no artifacts."


def _matches(file: RunArtifact, path: str, names: tuple[str, ...]) -> bool:
    if path in {file.name, "/".join(file.names)}:
        return True
    is_below = not path or file.name.startswith(f"{path}/") or file.names[: len(names)] == names
    return is_below and not file.on_request


def copy_files(chosen: RunArtifacts, folder: Path, *, force: bool) -> Copied:
    """Copy files one by one; the ones that can't be copied become omissions.

    Raises:
        InvalidValueError: different files exist and may not be replaced; nothing was copied.
        UnreachableError: the server does not respond.
        TransferError: the folder can't be written.
    """
    done = Copied(files=[], omissions=list(chosen.omissions))
    missing = []
    for file in chosen.files:
        is_there = _try(file, done, partial(_is_there, file, folder))
        if is_there:
            done.files.append(file)
        elif is_there is not None:
            missing.append(file)
    if not force:
        _refuse_to_replace(missing, folder)
    collect_abandoned(folder)
    for file in missing:
        written = _try(file, done, partial(_write, file, folder))
        if written is not None:
            done.files.append(file)
            done.copied += 1
            done.size += written
    done.files.sort(key=lambda file: file.name)
    return done


def _try(file: RunArtifact, done: Copied, work: Callable[[], _Result]) -> _Result | None:
    """Call ``work`` for a file; an error that concerns this file only is added to the omissions."""
    try:
        if not all(map(is_possible, file.names)):
            raise InvalidValueError("this is not a possible name of a file")
        return work()
    except UnreachableError:
        raise
    except ProjError as error:
        reason = f"{error.message}: {error.context}" if error.context else error.message
    except OSError as error:
        if error.errno in _FATAL:
            raise TransferError(
                "Files can't be copied to this folder", context=f"{file.name}: {error.strerror}"
            ) from error
        reason = error.strerror or str(error)
    done.omissions.append(Omission(path=file.name, reason=reason))
    return None


def _write(file: RunArtifact, folder: Path) -> int:
    """Copy a file and return its size; a file that differs from its recorded digest is not written.

    Raises:
        NotFoundError: the file is missing in the store.
        InvalidValueError: the file differs from its recorded digest.
    """
    try:
        return write_file(folder, file.names, _verified(file))
    except NotFoundError as error:
        if file.sha256 is None:
            raise
        raise NotFoundError("it is missing: it was recorded when the run ended") from error


def _verified(file: RunArtifact) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in file.pieces():
        digest.update(piece)
        yield piece
    if file.sha256 not in (None, digest.hexdigest()):
        raise InvalidValueError("it is damaged: its content differs from the digest recorded at the end of the run")


def _refuse_to_replace(files: Sequence[RunArtifact], folder: Path) -> None:
    taken = [printable(str(folder / file.name)) for file in files if _is_taken(file, folder)]
    if taken:
        shown = taken[:MAX_NAMED] + ([f"… and {len(taken) - MAX_NAMED} more"] if len(taken) > MAX_NAMED else [])
        raise InvalidValueError(
            "Nothing was copied: different files already exist",
            context="\n".join(shown),
            hint="Give another folder with --to DIR, or replace the files with --force.",
        )


def _is_taken(file: RunArtifact, folder: Path) -> bool:
    try:
        return os.path.lexists(folder.joinpath(*file.names))
    except ValueError:  # the name has a NUL character
        return False


def _is_there(file: RunArtifact, folder: Path) -> bool:
    here = size_of(folder, file.names)
    if here is None or (file.sha256 is None and file.size not in (None, here)):
        return False
    # The recorded digest decides: the file in the store may be damaged, and this copy intact.
    recorded = file.sha256 or _digest(file.pieces())
    return _digest(_pieces(folder, file.names)) == recorded


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _pieces(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    with open_found(folder, names) as file:
        while piece := file.read(_PIECE):
            yield piece
