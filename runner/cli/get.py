"""``proj get``: artifacts of a run back into a folder."""

import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from msgspec import Struct

from runner.cli import completions
from runner.cli.options import reads_runs
from runner.cli.output import clean, size
from runner.cli.run_source import open_runs
from runner.cli.text import say
from runner.errors import InvalidValueError, NotFoundError, ProjError, TransferError, UnreachableError
from runner.runs.reader import KeptFile, KeptFiles
from runner.store.artifact_paths import is_possible
from runner.store.artifacts import Omission, open_found, size_of, write_file
from runner.store.staging import collect_abandoned

_Result = TypeVar("_Result")

_PIECE = 1 << 20
_SHOWN = 10
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Faults of the folder that files are copied to, which the next file would have too."""


@click.command("get")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("path", default="", metavar="[PATH]")
@click.option(
    *("--to", "target"),
    default=".",
    metavar="DIR",
    help="Where to put them. [default: here]",
    shell_complete=completions.folders,
)
@click.option("--force", is_flag=True, help="Replace files that differ.")
@reads_runs
def get(run: str, path: str, target: str, force: bool, tracking_uri: str | None, local: bool) -> int:
    """Copy the artifacts of RUN with the models it logged, or those at PATH; files that differ are not replaced.

    The exit code is 1 when a file could not be copied, is missing in the store, or is no longer what was recorded; all
    other files are copied.
    """
    folder, path = Path(target), path.strip("/")
    with open_runs(tracking_uri, local=local) as reader:
        kept = reader.files(run)
        chosen = _chosen(kept, path)
        if not chosen.files and not chosen.omissions:
            raise NotFoundError(
                f"The run '{clean(run)}' has no artifact '{clean(path)}'" if path else "This run has no artifacts",
                hint=_hint(kept.files) if path else None,
            )
        done = _copy_all(chosen, folder, force=force)
    for file in done.files:
        _print_path(folder, file)
    say(f"{done.copied} copied ({size(done.size)}), {len(done.files) - done.copied} were there already")
    for one in done.omissions:
        say(f"! not copied: {clean(one.path)}: {clean(one.reason)}", fg="yellow")
    return 1 if done.omissions else 0


class _Copied(Struct, kw_only=True):
    """What was copied: the files that are in the folder now, how many and how many bytes are new, what is not there."""

    files: list[KeptFile]
    omissions: list[Omission]
    copied: int = 0
    size: int = 0


def _chosen(kept: KeptFiles, path: str) -> KeptFiles:
    names = tuple(path.split("/")) if path else ()
    beginning = f"{path}/" if path else ""
    # A name can be given as it is on disk, and as it is listed.
    files = [file for file in kept.files if _is_asked(file, path, names)]
    omissions = [one for one in kept.omissions if one.path == path or one.path.startswith(beginning)]
    return KeptFiles(files=tuple(files), omissions=tuple(omissions))


def _is_asked(file: KeptFile, path: str, names: tuple[str, ...]) -> bool:
    if path in {file.name, "/".join(file.names)}:
        return True
    is_below = not path or file.name.startswith(f"{path}/") or file.names[: len(names)] == names
    return is_below and not file.on_request


def _copy_all(chosen: KeptFiles, folder: Path, *, force: bool) -> _Copied:
    """Copy files one after the other; one that can't be copied is noted, and the others come all the same.

    Raises:
        InvalidValueError: files that differ are there, and may not be replaced; nothing was copied.
        UnreachableError: the server is gone.
        TransferError: nothing can be written to the folder.
    """
    done = _Copied(files=[], omissions=list(chosen.omissions))
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


def _try(file: KeptFile, done: _Copied, work: Callable[[], _Result]) -> _Result | None:
    """Do something with a file, and note when that fails for a reason that concerns this file only."""
    try:
        if not all(map(is_possible, file.names)):
            raise InvalidValueError("No file can have this name")
        return work()
    except UnreachableError:
        raise
    except ProjError as error:
        reason = f"{error.message}: {error.context}" if error.context else error.message
    except OSError as error:
        if error.errno in _FATAL:
            raise TransferError("Files can't be copied here", context=f"{file.name}: {error.strerror}") from error
        reason = error.strerror or str(error)
    done.omissions.append(Omission(path=file.name, reason=reason))
    return None


def _write(file: KeptFile, folder: Path) -> int:
    """Copy a file and return its size; where it is not what was recorded, nothing of it is left behind.

    Raises:
        NotFoundError: it is missing in the store.
        InvalidValueError: it is not what was recorded.
    """
    try:
        return write_file(folder, file.names, _verified(file))
    except NotFoundError as error:
        if file.sha256 is None:
            raise
        raise NotFoundError("it is missing: it was recorded when the run ended") from error


def _verified(file: KeptFile) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in file.pieces():
        digest.update(piece)
        yield piece
    if file.sha256 not in (None, digest.hexdigest()):
        raise InvalidValueError("it is damaged: its content differs from the digest recorded at the end of the run")


def _refuse_to_replace(files: Sequence[KeptFile], folder: Path) -> None:
    taken = [clean(str(folder / file.name)) for file in files if _is_taken(file, folder)]
    if taken:
        shown = taken[:_SHOWN] + ([f"… and {len(taken) - _SHOWN} more"] if len(taken) > _SHOWN else [])
        raise InvalidValueError(
            "Nothing was copied: files that differ are there already",
            context="\n".join(shown),
            hint="Give another folder with --to DIR, or replace them with --force.",
        )


def _is_taken(file: KeptFile, folder: Path) -> bool:
    try:
        return os.path.lexists(folder.joinpath(*file.names))
    except ValueError:  # no name of a file
        return False


def _is_there(file: KeptFile, folder: Path) -> bool:
    here = size_of(folder, file.names)
    if here is None or (file.sha256 is None and file.size not in (None, here)):
        return False
    # What was recorded counts: the file in the store may be damaged, and the one here whole.
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


def _print_path(folder: Path, file: KeptFile) -> None:
    """Print where a file is: byte for byte to a program, and to people so that it does not steer their terminal."""
    place = str(folder.joinpath(*file.names))
    click.echo(clean(place) if sys.stdout.isatty() else os.fsencode(place))


def _hint(files: Sequence[KeptFile]) -> str:
    names = ", ".join(clean(file.name) for file in files[:_SHOWN])
    return f"There are {names}{', …' if len(files) > _SHOWN else ''}." if names else "It has none."
