"""Endpoints for artifacts: listings, and the proxy through which clients send and fetch files."""

import posixpath
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import NotFoundError
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import ListArtifacts, ListModelArtifacts, ListProxied
from runner.protocol.responses import FileSchema
from runner.server import zero_copy
from runner.server.api.tracking import Route, Tracking, run_of
from runner.server.budgets import PLAIN, SPLICED, TRANSFERS
from runner.store import artifact_digests, artifacts, models, runs
from runner.store.artifact_paths import names_of
from runner.store.artifacts import ArtifactInfo

_PROXIED = re.compile(
    r"[^/]+/(?:(?P<run>[0-9a-f]{32})|models/(?P<model>m-[0-9a-f]{32}))/artifacts(?:/(?P<rest>.*))?", re.DOTALL
)


class ArtifactLocation(Struct, frozen=True, kw_only=True):
    """The target of a path of the artifact proxy: the artifact folder of a run or a model, and a path in it."""

    root: Path
    path: str
    run_id: str | None = None
    model_id: str | None = None

    @property
    def owner(self) -> str:
        """The id of the run or the model."""
        return self.run_id or self.model_id or ""


def list_of_run(tracking: Tracking, request: ListArtifacts) -> object:
    """List a folder of a run's artifacts; paths are relative to the artifact root of the run."""
    run = runs.get(tracking.database, run_of(request))
    root = _own_folder(tracking.home.artifacts(run.run_id), run.artifact_uri)
    return {
        "root_uri": tracking.session.uri_for_client(run.artifact_uri),
        "files": [_file(info, info.path) for info in _content(root, request.path)],
    }


def list_of_model(tracking: Tracking, request: ListModelArtifacts) -> object:
    """List a folder of a logged model's artifacts; paths are relative to the artifact root of the model."""
    model = models.get(tracking.database, request.model_id)
    root = _own_folder(_model_folder(tracking, model.model_id), model.artifact_uri)
    found = _content(root, request.artifact_directory_path)
    return {
        "root_uri": tracking.session.uri_for_client(model.artifact_uri),
        "files": [_file(info, info.path) for info in found],
    }


def list_proxied(tracking: Tracking, request: ListProxied) -> object:
    """List a folder through the proxy; paths are relative to the folder."""
    location = find_location(tracking, request.path)
    found = _content(location.root, location.path)
    return {"files": [_file(info, posixpath.basename(info.path)) for info in found]} if found else {}


def is_proxied(path: str) -> bool:
    """Check whether a path of the artifact proxy names a run or a logged model."""
    return _PROXIED.fullmatch(path.strip("/")) is not None


def find_location(tracking: Tracking, path: str) -> ArtifactLocation:
    """Return the location of a path of the artifact proxy.

    Raises:
        NotFoundError: the run or model does not exist.
        RefusedError: the path is not below the artifacts of a run or a model.
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


def writable_location(tracking: Tracking, path: str) -> ArtifactLocation:
    """Return the location of a path of the artifact proxy, after checking that the caller may write there.

    Raises:
        NotFoundError: the run or model does not exist.
        RefusedError: the caller may not write there, or the path names no file.
    """
    location = find_location(tracking, path)
    if location.run_id is not None:
        tracking.session.check_run(tracking.database, location.run_id)
    if location.model_id is not None:
        tracking.session.check_model(location.model_id)
    if not location.path:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Invalid path: it names no artifact.")
    return location


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
    location = writable_location(tracking, path)
    size = zero_copy.body_to_splice(scope)
    if size is not None and TRANSFERS.left < SPLICED:
        size = None
    with TRANSFERS.hold(PLAIN if size is None else SPLICED):
        await _receive(tracking, location, scope, pieces, check, size)


async def _receive(
    tracking: Tracking,
    location: ArtifactLocation,
    scope: Mapping[str, Any],
    pieces: AsyncIterator[bytes],
    check: Callable[[bool], None],
    size: int | None,
) -> None:
    """Store a file; ``size`` is the size of a body that is spliced."""
    writer = artifacts.ArtifactWriter(location.root, location.path)
    try:
        if size is not None:
            await zero_copy.receive_file(scope, writer.descriptor, size, check)
        else:
            async for piece in pieces:
                writer.write(piece)
        forget_digest(tracking, location)
    except BaseException:
        writer.discard()
        raise
    writer.finish()
    note_upload(tracking, location)


def remove_file(tracking: Tracking, path: str) -> Callable[[], None]:
    """Return a function that removes a file or folder of artifacts, which can have many files."""
    location = writable_location(tracking, path)

    def remove() -> None:
        forget_digest(tracking, location)
        artifacts.delete(location.root, location.path)

    return remove


def forget_digest(tracking: Tracking, location: ArtifactLocation) -> None:
    """Drop the recorded digest of a file before a client replaces or removes it."""
    artifact_digests.delete_digests(tracking.database, location.owner, names_of(location.path))


def note_upload(tracking: Tracking, location: ArtifactLocation) -> None:
    """Have the digest of a file recorded that a client has sent completely."""
    if tracking.uploads is not None:
        tracking.uploads.add(location.owner, location.root, names_of(location.path))


def _content(root: Path, path: str) -> tuple[ArtifactInfo, ...]:
    """List a folder; the entry of a file for itself is left out, because clients would take it for a folder."""
    path = path.strip("/")
    return tuple(info for info in artifacts.list_artifacts(root, path) if info.path != path)


def _model_folder(tracking: Tracking, model_id: str) -> Path:
    return tracking.home.model_artifacts(model_id)


def _own_folder(folder: Path, uri: str) -> Path:
    """Return the artifact folder of the store, after checking that the artifact URI refers to it.

    Raises:
        NotFoundError: the artifacts are at another location, which the client must read itself.
    """
    if uri != folder.absolute().as_uri():
        raise NotFoundError("These artifacts are not kept in this store")
    return folder


def _file(info: ArtifactInfo, path: str) -> FileSchema:
    return FileSchema(path=path, is_dir=info.is_dir, file_size=info.size)


ROUTES = (
    Route("GET", "artifacts/list", ListArtifacts, list_of_run, is_listing=True),
    Route("GET", "logged-models/{model_id}/artifacts/directories", ListModelArtifacts, list_of_model, is_listing=True),
)
