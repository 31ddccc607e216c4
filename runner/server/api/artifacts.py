"""The endpoints for artifacts: lists, and the proxy through which clients send and fetch files, piece by piece."""

import posixpath
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import NotFoundError
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import ListArtifacts, ListModelArtifacts, ListProxied
from runner.protocol.responses import FileShape
from runner.server import zero_copy
from runner.server.api.tracking import Route, Tracking, run_of
from runner.store import artifact_digests, artifacts, models, runs
from runner.store.artifacts import ArtifactInfo

PIECE = 256 * 1024
"""Bytes of a file that are in memory at once."""

_PROXIED = re.compile(
    r"[^/]+/(?:(?P<run>[0-9a-f]{32})|models/(?P<model>m-[0-9a-f]{32}))/artifacts(?:/(?P<rest>.*))?", re.DOTALL
)


class ArtifactLocation(Struct, frozen=True, kw_only=True):
    """Where a path of the artifact proxy leads: the folder of a run's or a model's artifacts, and a path in it."""

    root: Path
    path: str
    run_id: str | None = None
    model_id: str | None = None


def list_of_run(tracking: Tracking, asked: ListArtifacts) -> object:
    """Tell what is in a folder of a run's artifacts; paths are relative to the run's."""
    run = runs.get(tracking.database, run_of(asked))
    root = _own_folder(tracking.home.artifacts(run.run_id), run.artifact_uri)
    return {
        "root_uri": tracking.session.uri_told(run.artifact_uri),
        "files": [_file(info, info.path) for info in _content(root, asked.path)],
    }


def list_of_model(tracking: Tracking, asked: ListModelArtifacts) -> object:
    """Tell what is in a folder of a logged model's artifacts; paths are relative to the model's."""
    model = models.get(tracking.database, asked.model_id)
    root = _own_folder(_model_folder(tracking, model.model_id), model.artifact_uri)
    found = _content(root, asked.artifact_directory_path)
    return {
        "root_uri": tracking.session.uri_told(model.artifact_uri),
        "files": [_file(info, info.path) for info in found],
    }


def list_proxied(tracking: Tracking, asked: ListProxied) -> object:
    """Tell what is in a folder behind the proxy; paths are relative to the folder."""
    place = find_place(tracking, asked.path)
    found = _content(place.root, place.path)
    return {"files": [_file(info, posixpath.basename(info.path)) for info in found]} if found else {}


def is_proxied(path: str) -> bool:
    """Say whether a path of the artifact proxy names a run or a logged model."""
    return _PROXIED.fullmatch(path.strip("/")) is not None


def find_place(tracking: Tracking, path: str) -> ArtifactLocation:
    """Return where a path of the artifact proxy leads.

    Raises:
        NotFoundError: there is no such run or model.
        RefusedError: the path is not below the artifacts of one.
    """
    match = _PROXIED.fullmatch(path.strip("/"))
    if match is None:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Invalid path: it is not below the artifacts of a run.")
    if match["run"]:
        uri = runs.get(tracking.database, match["run"]).artifact_uri
        root = _own_folder(tracking.home.artifacts(match["run"]), uri)
    else:
        uri = models.get(tracking.database, match["model"]).artifact_uri
        root = _own_folder(_model_folder(tracking, match["model"]), uri)
    return ArtifactLocation(root=root, path=match["rest"] or "", run_id=match["run"], model_id=match["model"])


def place_to_change(tracking: Tracking, path: str) -> ArtifactLocation:
    """Return where a path of the artifact proxy leads, if the caller may write there.

    Raises:
        NotFoundError: there is no such run or model.
        RefusedError: it belongs to somebody else, or is no place for a file.
    """
    place = find_place(tracking, path)
    if place.run_id is not None:
        tracking.session.check_run(tracking.database, place.run_id)
    if place.model_id is not None:
        tracking.session.check_model(place.model_id)
    if not place.path:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Invalid path: it names no artifact.")
    return place


async def receive_file(
    tracking: Tracking,
    path: str,
    scope: Mapping[str, Any],
    pieces: AsyncIterator[bytes],
    check: Callable[[bool], None],
) -> None:
    """Store a file that a client sends; it is visible to readers only when it is complete.

    ``check`` is the check of the caller while the body is spliced; ``pieces`` checks the caller itself.
    """
    place = place_to_change(tracking, path)
    writer = artifacts.ArtifactWriter(place.root, place.path)
    try:
        size = zero_copy.body_to_splice(scope)
        if size is not None:
            await zero_copy.receive_file(scope, writer.descriptor, size, check)
        else:
            async for piece in pieces:
                writer.write(piece)
        forget_digest(tracking, place)
    except BaseException:
        writer.discard()
        raise
    writer.finish()


def remove_file(tracking: Tracking, path: str) -> None:
    """Remove a file or folder among artifacts."""
    place = place_to_change(tracking, path)
    forget_digest(tracking, place)
    artifacts.delete(place.root, place.path)


def forget_digest(tracking: Tracking, place: ArtifactLocation) -> None:
    """Forget what was recorded of a file that a client is about to replace or remove."""
    artifact_digests.delete_digests(tracking.database, place.run_id or place.model_id or "", place.path)


def _content(root: Path, path: str) -> tuple[ArtifactInfo, ...]:
    """Return what is in a folder; a file is not in itself, for clients would take it for a folder."""
    path = path.strip("/")
    return tuple(info for info in artifacts.list_artifacts(root, path) if info.path != path)


def _model_folder(tracking: Tracking, model_id: str) -> Path:
    return tracking.home.run("models") / model_id / "artifacts"


def _own_folder(folder: Path, uri: str) -> Path:
    """Return the folder that the store has for artifacts, if they are there: a client may have chosen any other place.

    Raises:
        NotFoundError: they are elsewhere, where a client must read by itself.
    """
    if uri != folder.absolute().as_uri():
        raise NotFoundError("These artifacts are not kept in this store")
    return folder


def _files(found: tuple[ArtifactInfo, ...]) -> list[FileShape]:
    return [_file(info, info.path) for info in found]


def _file(info: ArtifactInfo, path: str) -> FileShape:
    return FileShape(path=path, is_dir=info.is_dir, file_size=info.size)


ROUTES = (
    Route("GET", "artifacts/list", ListArtifacts, list_of_run),
    Route("GET", "logged-models/{model_id}/artifacts/directories", ListModelArtifacts, list_of_model),
)
