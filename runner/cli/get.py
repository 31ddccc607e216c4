"""``proj get``: artifacts of a run back into a folder."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from runner.cli import completing
from runner.cli.reading import clean, size
from runner.cli.text import say
from runner.cli.whose import open_runs
from runner.cli.words import reads_runs
from runner.errors import InvalidValueError, NotFoundError
from runner.reading.reader import KeptFile
from runner.store.artifacts import check_path, write_artifact

_PIECE = 1 << 20
_SHOWN = 10


_INCOMPLETE = 1


class _DamagedError(Exception):
    """A file is not what was recorded."""


@click.command("get")
@click.argument("run", metavar="RUN", shell_complete=completing.runs)
@click.argument("path", default="", metavar="[PATH]")
@click.option(
    *("--to", "target"),
    default=".",
    metavar="DIR",
    help="Where to put them. [default: here]",
    shell_complete=completing.folders,
)
@click.option("--force", is_flag=True, help="Replace files that differ.")
@reads_runs
def get(run: str, path: str, target: str, force: bool, tracking_uri: str | None, local: bool) -> int:
    """Copy the artifacts of RUN with the models it logged, or those at PATH; files that differ are not replaced.

    A file that is missing in the store, or no longer what was recorded, is named; the others are copied.
    """
    folder, path = Path(target), check_path(path.strip("/")) if path.strip("/") else ""
    with open_runs(tracking_uri, local=local) as reader:
        kept = reader.files(run)
        files = [file for file in kept if _is_asked(file, path)]
        if not files:
            raise NotFoundError(
                f"The run '{clean(run)}' has no artifact '{clean(path)}'" if path else "This run has no artifacts",
                hint=_hint(kept) if path else None,
            )
        missing = [file for file in files if not _is_there(file, folder)]
        if not force:
            _refuse_to_replace(missing, folder)
        copies = {file.name: _copy(file, folder) for file in missing}
    faults = {name: fault for name, fault in copies.items() if isinstance(fault, str)}
    for file in files:
        if file.name not in faults:
            click.echo(str(folder / file.name))
    total = sum(written for written in copies.values() if isinstance(written, int))
    copied = f"{len(missing) - len(faults)} copied ({size(total)})"
    say(f"{copied}, {len(files) - len(missing)} were there already")
    for name, fault in faults.items():
        say(f"! {clean(name)} {fault}; it is not copied", fg="yellow")
    return _INCOMPLETE if faults else 0


def _copy(file: KeptFile, folder: Path) -> int | str:
    """Copy a file and return its size; where it is not what was recorded, say in what, and leave nothing behind."""
    digest = hashlib.sha256()

    def watched() -> Iterator[bytes]:
        for piece in file.pieces():
            digest.update(piece)
            yield piece
        if file.sha256 not in (None, digest.hexdigest()):
            raise _DamagedError

    try:
        return write_artifact(folder, file.name, watched())
    except _DamagedError:
        return "is damaged: its content is not what was recorded when the run ended"
    except NotFoundError:
        if file.sha256 is None:
            raise
        return "is missing: it was recorded when the run ended"


def _is_asked(file: KeptFile, path: str) -> bool:
    return file.name == path or (not file.on_request and (not path or file.name.startswith(f"{path}/")))


def _refuse_to_replace(files: Sequence[KeptFile], folder: Path) -> None:
    taken = [clean(str(folder / file.name)) for file in files if (folder / file.name).exists()]
    if taken:
        shown = taken[:_SHOWN] + ([f"… and {len(taken) - _SHOWN} more"] if len(taken) > _SHOWN else [])
        raise InvalidValueError(
            "Nothing was copied: files that differ are there already",
            context="\n".join(shown),
            hint="Give another folder with --to DIR, or replace them with --force.",
        )


def _is_there(file: KeptFile, folder: Path) -> bool:
    place = folder / file.name
    if not place.is_file() or file.size not in (None, place.stat().st_size):
        return False
    return _digest(_pieces(place)) == (file.sha256 or _digest(file.pieces()))


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _hint(files: Sequence[KeptFile]) -> str:
    names = ", ".join(clean(file.name) for file in files[:_SHOWN])
    return f"There are {names}{', …' if len(files) > _SHOWN else ''}." if names else "It has none."
