"""Endpoints for multipart uploads (MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD)."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct

from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import Request
from runner.server.api.artifacts import ArtifactLocation, forget_digest, is_proxied, note_upload, writable_location
from runner.server.api.tracking import Tracking
from runner.server.budgets import PLAIN, TRANSFERS
from runner.store import uploads

_NO_PARTS = "Multipart upload is not supported for the current artifact repository"
"""Error text that makes MLflow clients fall back to a single upload."""

_MAX_RESPONSE = 8 * 2**20
_PER_PART = 120
"""Limit of the response to `create`, in bytes, and the size of one part in it without address and headers."""

_NUMBER = Meta(ge=1, le=uploads.MAX_PARTS)

PART = re.compile(r"part/(?P<upload>[^/]+)/(?P<number>\d{1,6})/(?P<path>.+)", re.DOTALL)
"""Path of a part; clients get it in the response to `create`."""


class CreateUpload(Request, frozen=True, kw_only=True):
    """Begin a multipart upload; ``path`` is the path of the file on the client's disk."""

    path: str
    num_parts: Annotated[int, _NUMBER]


class SentPart(Struct, frozen=True, kw_only=True):
    """A part that was sent, with the ETag of its response."""

    part_number: Annotated[int, _NUMBER]
    etag: str = ""


class CompleteUpload(Request, frozen=True, kw_only=True):
    """Complete a multipart upload."""

    path: str
    upload_id: str
    parts: tuple[SentPart, ...] = ()


class AbortUpload(Request, frozen=True, kw_only=True):
    """Abort a multipart upload."""

    path: str
    upload_id: str


def create(tracking: Tracking, folder: str, request: CreateUpload, base: str, headers: dict[str, str]) -> object:
    """Begin a multipart upload; return the URL of each part and the headers that authenticate it."""
    if not is_proxied(folder):
        # Old clients (such as MLflow 2.9) send the path within a run, but not the run.
        raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NO_PARTS)
    location = _location(tracking, folder, request.path)
    size = sum(map(len, (base, quote(folder), *headers, *headers.values()))) + _PER_PART
    if size * request.num_parts > _MAX_RESPONSE:
        raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NO_PARTS)
    upload = uploads.begin(location.root, location.path)
    return {
        "upload_id": upload,
        "credentials": [
            {"url": f"{base}/part/{upload}/{number}/{quote(folder)}", "part_number": number, "headers": headers}
            for number in range(1, request.num_parts + 1)
        ],
    }


async def receive_part(tracking: Tracking, found: "re.Match[str]", pieces: AsyncIterator[bytes]) -> str:
    """Store a part, and return its ETag."""
    location = _location(tracking, found["path"], "part")
    with TRANSFERS.hold(PLAIN):
        writer = uploads.PartWriter(location.root, found["upload"], int(found["number"]))
        try:
            async for piece in pieces:
                writer.write(piece)
        except BaseException:
            writer.discard()
            raise
        return writer.finish()


def complete(tracking: Tracking, folder: str, request: CompleteUpload) -> Callable[[], None]:
    """Return a function that assembles the file, which takes as long as copying it."""
    location = _location(tracking, folder, request.path)
    tags = {part.part_number: part.etag for part in request.parts}

    def finish() -> None:
        forget_digest(tracking, location)
        uploads.finish(location.root, location.path, request.upload_id, tags)
        note_upload(tracking, location)

    return finish


def abort(tracking: Tracking, folder: str, request: AbortUpload) -> None:
    """Abort a multipart upload."""
    uploads.abandon(_location(tracking, folder, request.path).root, request.upload_id)


def _location(tracking: Tracking, folder: str, local: str) -> ArtifactLocation:
    """Return the location of a file; its name is the one on the client's disk, which may be a Windows path."""
    name = re.split(r"[/\\]", local)[-1]
    if not name:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Invalid path: it names no file.")
    return writable_location(tracking, f"{folder.strip('/')}/{name}")
