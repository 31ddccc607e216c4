"""The endpoints for files that clients send in parts, several at once (MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD)."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct

from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import Request
from runner.server.api.artifacts import ArtifactLocation, forget_digest, is_proxied, place_to_change
from runner.server.api.tracking import Tracking
from runner.store import uploads

_NO_PARTS = "Multipart upload is not supported for the current artifact repository"
"""The sentence by which clients know that they must send a file in one piece."""

_MAX_ANSWER = 8 * 2**20
_PER_PART = 120
"""Bytes of the answer to `create`, in which each part repeats the address and the token; and what else each takes."""

_NUMBER = Meta(ge=1, le=uploads.MAX_PARTS)

PART = re.compile(r"part/(?P<upload>[^/]+)/(?P<number>\d{1,6})/(?P<path>.+)", re.DOTALL)
"""Where a part is sent to: a path of ours, which clients only learn from the answer to `create`."""


class CreateUpload(Request, frozen=True, kw_only=True):
    """Ask to send a file in parts; ``path`` is where it is on the client's disk."""

    path: str
    num_parts: Annotated[int, _NUMBER]


class SentPart(Struct, frozen=True, kw_only=True):
    """A part that was sent, with the tag that it was answered with."""

    part_number: Annotated[int, _NUMBER]
    etag: str = ""


class CompleteUpload(Request, frozen=True, kw_only=True):
    """Say that all parts of a file were sent."""

    path: str
    upload_id: str
    parts: tuple[SentPart, ...] = ()


class AbortUpload(Request, frozen=True, kw_only=True):
    """Say that a file will not come."""

    path: str
    upload_id: str


def create(tracking: Tracking, folder: str, asked: CreateUpload, base: str, headers: dict[str, str]) -> object:
    """Tell where each part goes, and the headers by which the client is known again there."""
    if not is_proxied(folder):
        # Old clients (2.9 is one) say only where the file goes within a run, not in which.
        raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NO_PARTS)
    place = _place(tracking, folder, asked.path)
    told = sum(map(len, (base, quote(folder), *headers, *headers.values()))) + _PER_PART
    if told * asked.num_parts > _MAX_ANSWER:
        raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NO_PARTS)
    upload = uploads.begin(place.root, place.path)
    return {
        "upload_id": upload,
        "credentials": [
            {"url": f"{base}/part/{upload}/{number}/{quote(folder)}", "part_number": number, "headers": headers}
            for number in range(1, asked.num_parts + 1)
        ],
    }


async def receive_part(tracking: Tracking, found: "re.Match[str]", pieces: AsyncIterator[bytes]) -> str:
    """Keep a part, and return its tag."""
    place = _place(tracking, found["path"], "part")
    writer = uploads.PartWriter(place.root, found["upload"], int(found["number"]))
    try:
        async for piece in pieces:
            writer.write(piece)
    except BaseException:
        writer.discard()
        raise
    return writer.finish()


def complete(tracking: Tracking, folder: str, asked: CompleteUpload) -> Callable[[], None]:
    """Return the work of putting a file together, which takes as long as copying it."""
    place = _place(tracking, folder, asked.path)
    tags = {part.part_number: part.etag for part in asked.parts}

    def finish() -> None:
        forget_digest(tracking, place)
        uploads.finish(place.root, place.path, asked.upload_id, tags)

    return finish


def abort(tracking: Tracking, folder: str, asked: AbortUpload) -> None:
    """Forget a file that was begun."""
    uploads.abandon(_place(tracking, folder, asked.path).root, asked.upload_id)


def _place(tracking: Tracking, folder: str, local: str) -> ArtifactLocation:
    """Return where a file belongs; it is called as on the client's disk, which may be one of Windows."""
    name = re.split(r"[/\\]", local)[-1]
    if not name:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Invalid path: it names no file.")
    return place_to_change(tracking, f"{folder.strip('/')}/{name}")
