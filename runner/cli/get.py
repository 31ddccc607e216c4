"""``proj get``: artifacts of a run back into a folder."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click
from msgspec import Struct

from runner.cli.reading import clean, open_store, size
from runner.cli.text import say
from runner.errors import InvalidValueError, NotFoundError
from runner.settings import Home
from runner.store import runs
from runner.store.artifacts import ArtifactInfo, local_folder, open_artifact, walk_artifacts, write_artifact
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.models import ModelQuery, search

_PIECE = 1 << 20
_SHOWN = 10


@click.command("get")
@click.argument("run", metavar="RUN")
@click.argument("path", default="", metavar="[PATH]")
@click.option("--to", "target", default=".", metavar="DIR", help="Where to put them. [default: here]")
@click.option("--force", is_flag=True, help="Replace files that differ.")
def get(run: str, path: str, target: str, force: bool) -> None:
    """Copy the artifacts of RUN with the models it logged, or those at PATH; files that differ are not replaced."""
    path = path.strip("/")
    with open_store() as (database, home):
        found = runs.get(database, runs.resolve(database, run))
        places = _places(database, found)
    files = [kept for place in places for kept in place.files(path)] or _lock(home, found.run_id, path)
    if not files:
        raise NotFoundError(
            f"The run {found.run_id[:8]} has no artifact '{clean(path)}'" if path else "This run has no artifacts",
            hint=_hint([kept for place in places for kept in place.files("")]) if path else None,
        )
    folder = Path(target)
    missing = [kept for kept in files if not _is_there(kept, folder)]
    if not force:
        _refuse_to_replace(missing, folder)
    for kept in missing:
        with open_artifact(kept.root, kept.file.path) as source:
            write_artifact(folder, kept.name, _pieces(source))
    for kept in files:
        click.echo(str(folder / kept.name))
    total = sum(kept.file.size or 0 for kept in missing)
    say(f"{len(missing)} copied ({size(total)}), {len(files) - len(missing)} were there already")


class Kept(Struct, frozen=True, kw_only=True):
    """A file that is kept with a run: the folder it is in, the file there, and its name for the user."""

    root: Path
    file: ArtifactInfo
    name: str


class Place(Struct, frozen=True, kw_only=True):
    """A folder of kept files; those of a logged model have its name as their folder for the user."""

    root: Path
    model: str = ""

    def files(self, path: str) -> list[Kept]:
        """Return the files at a path, which is one file, a folder, or empty for all."""
        inner = path
        if self.model and path:
            if path != self.model and not path.startswith(f"{self.model}/"):
                return []
            inner = path[len(self.model) + 1 :]
        before = f"{self.model}/" if self.model else ""
        found = walk_artifacts(self.root, inner)
        return [Kept(root=self.root, file=file, name=before + file.path) for file in found]


def _places(database: Database, run: Run) -> list[Place]:
    root = local_folder(run.artifact_uri)
    if root is None:
        raise NotFoundError("The artifacts of this run are not kept here", context=clean(run.artifact_uri))
    logged = search(database, ModelQuery(filter=f"source_run_id = '{run.run_id}'", limit=1000)).items
    folders = ((local_folder(model.artifact_uri), model.name) for model in logged)
    return [Place(root=root), *(Place(root=place, model=name) for place, name in folders if place)]


def _lock(home: Home, run_id: str, path: str) -> list[Kept]:
    """Return the lock of the environment, which is no artifact, where it is asked for by its name."""
    lock = home.lock(run_id)
    if lock is None or path != lock.name:
        return []
    return [Kept(root=lock.parent, file=ArtifactInfo(path=path, is_dir=False, size=lock.stat().st_size), name=path)]


def _refuse_to_replace(files: Sequence[Kept], folder: Path) -> None:
    taken = [clean(str(folder / kept.name)) for kept in files if (folder / kept.name).exists()]
    if taken:
        shown = taken[:_SHOWN] + ([f"… and {len(taken) - _SHOWN} more"] if len(taken) > _SHOWN else [])
        raise InvalidValueError(
            "Nothing was copied: files that differ are there already",
            context="\n".join(shown),
            hint="Give another folder with --to DIR, or replace them with --force.",
        )


def _is_there(kept: Kept, folder: Path) -> bool:
    place = folder / kept.name
    if not place.is_file() or place.stat().st_size != kept.file.size:
        return False
    with open_artifact(kept.root, kept.file.path) as one, place.open("rb") as other:
        return _digest(one) == _digest(other)


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.digest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _hint(files: Sequence[Kept]) -> str:
    names = ", ".join(clean(kept.name) for kept in files[:_SHOWN])
    return f"There are {names}{', …' if len(files) > _SHOWN else ''}." if names else "It has none."
