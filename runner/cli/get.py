"""``proj get``: artifacts of a run back into a folder."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from runner.cli.reading import clean, open_store, size
from runner.cli.text import say
from runner.errors import InvalidValueError, NotFoundError
from runner.store import runs
from runner.store.artifacts import ArtifactInfo, local_folder, open_artifact, walk_artifacts, write_artifact

_PIECE = 1 << 20
_SHOWN = 10


@click.command("get")
@click.argument("run", metavar="RUN")
@click.argument("path", default="", metavar="[PATH]")
@click.option("--to", "target", default=".", metavar="DIR", help="Where to put them. [default: here]")
@click.option("--force", is_flag=True, help="Replace files that differ.")
def get(run: str, path: str, target: str, force: bool) -> None:
    """Copy the artifacts of RUN, or those at PATH; files that are there already and differ are not replaced."""
    with open_store() as (database, _):
        found = runs.get(database, runs.resolve(database, run))
    root = local_folder(found.artifact_uri)
    if root is None:
        raise NotFoundError("The artifacts of this run are not kept here", context=clean(found.artifact_uri))
    files = walk_artifacts(root, path.strip("/"))
    if not files:
        raise NotFoundError(
            f"The run {found.run_id[:8]} has no artifact '{clean(path)}'" if path else "This run has no artifacts",
            hint=_hint(walk_artifacts(root)) if path else None,
        )
    folder = Path(target)
    missing = [file for file in files if not _is_there(root, file, folder)]
    if not force:
        _refuse_to_replace(missing, folder)
    for file in missing:
        with open_artifact(root, file.path) as source:
            write_artifact(folder, file.path, _pieces(source))
    for file in files:
        click.echo(str(folder / file.path))
    total = sum(file.size or 0 for file in missing)
    say(f"{len(missing)} files copied ({size(total)}), {len(files) - len(missing)} were there already")


def _refuse_to_replace(files: Sequence[ArtifactInfo], folder: Path) -> None:
    taken = [clean(str(folder / file.path)) for file in files if (folder / file.path).exists()]
    if taken:
        shown = taken[:_SHOWN] + ([f"… and {len(taken) - _SHOWN} more"] if len(taken) > _SHOWN else [])
        raise InvalidValueError(
            "Nothing was copied: files that differ are there already",
            context="\n".join(shown),
            hint="Give another folder with --to DIR, or replace them with --force.",
        )


def _is_there(root: Path, file: ArtifactInfo, folder: Path) -> bool:
    place = folder / file.path
    if not place.is_file() or place.stat().st_size != file.size:
        return False
    with open_artifact(root, file.path) as one, place.open("rb") as other:
        return _digest(one) == _digest(other)


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.digest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _hint(files: Sequence[ArtifactInfo]) -> str:
    names = ", ".join(clean(file.path) for file in files[:_SHOWN])
    return f"There are {names}{', …' if len(files) > _SHOWN else ''}." if names else "It has none."
