"""Reads the images among the files of runs, to be put into a page."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from msgspec import Struct

from runner.errors import ProjError
from runner.runs.reader import RunArtifact

_KINDS = {
    ".png": ("image/png", b"\x89PNG\r\n\x1a\n"),
    ".jpg": ("image/jpeg", b"\xff\xd8\xff"),
    ".jpeg": ("image/jpeg", b"\xff\xd8\xff"),
    ".gif": ("image/gif", b"GIF8"),
    ".webp": ("image/webp", b"RIFF"),
    ".svg": ("image/svg+xml", b"<"),
}
"""Media type and first bytes by suffix. A browser runs no script in an SVG file that an ``img`` element shows."""


class ImageLimits(Struct, frozen=True, kw_only=True):
    """The largest image that is put into a page, the size of all images (both in bytes), and their number."""

    single: int = 1_000_000
    total: int = 25_000_000
    count: int = 100


class Image(Struct, frozen=True, kw_only=True):
    """An image of a run; ``data`` is a data URL (RFC 2397), or None with the reason why it is left out."""

    run_id: str
    name: str
    size: int | None
    data: str | None = None
    reason: str | None = None


def is_image(file: RunArtifact) -> bool:
    """Tell whether a file has the name of an image that browsers show."""
    return not file.on_request and _suffix(file) in _KINDS


def read_images(files: Iterable[tuple[str, RunArtifact]], limits: ImageLimits) -> Iterator[Image]:
    """Yield the images of runs, given as run id and file, as far as the limits allow."""
    rest = limits.total
    for number, (run_id, file) in enumerate(files):
        try:
            content = _content(file, min(limits.single, rest), is_full=number >= limits.count or rest < limits.single)
        except (ProjError, OSError, _LeftOutError) as error:
            reason = str(error) or type(error).__name__
            yield Image(run_id=run_id, name=file.name, size=file.size, reason=reason)
            continue
        rest -= len(content)
        data = f"data:{_KINDS[_suffix(file)][0]};base64,{b64encode(content).decode()}"
        yield Image(run_id=run_id, name=file.name, size=len(content), data=data)


class _LeftOutError(Exception):
    """An image is not put into the page; the text is the reason."""


def _content(file: RunArtifact, limit: int, *, is_full: bool) -> bytes:
    """Return the content of an image.

    Raises:
        _LeftOutError: the image is too large, or is no image, or its content is not the recorded one.
        ProjError: it can't be read.
    """
    if is_full:
        raise _LeftOutError("the page has no room for more images")
    too_large = _LeftOutError("larger than the limit for one image")
    if file.size is not None and file.size > limit:
        raise too_large
    content = bytearray()
    for piece in file.pieces():
        content += piece
        if len(content) > limit:
            raise too_large
    if file.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise _LeftOutError("its content differs from the digest recorded at the end of the run")
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_KINDS[_suffix(file)][1]):
        raise _LeftOutError("its content is not an image of this kind")
    return bytes(content)


def _suffix(file: RunArtifact) -> str:
    return PurePosixPath(file.name).suffix.lower()
