"""Files among artifacts that arrive in parts, several at once; a file is there when all of it is."""

import re
import secrets
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from runner.errors import InvalidValueError, NotFoundError
from runner.store.artifacts import PARTIAL, ArtifactWriter, check_path

MAX_PARTS = 10_000

_PIECE = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{32}")
_TARGET = "target"


def begin(root: Path, path: str) -> str:
    """Begin a file, and return what its parts are sent under.

    Raises:
        InvalidValueError: the path is unsafe.
    """
    checked = check_path(path)
    upload = secrets.token_hex(16)
    folder = root / f"{PARTIAL}{upload}"
    folder.mkdir(parents=True)
    (folder / _TARGET).write_text(checked, encoding="utf-8")
    return upload


class PartWriter:
    """One part, which arrives in pieces. End with `finish` or `discard`."""

    def __init__(self, root: Path, upload: str, number: int) -> None:
        if not 1 <= number <= MAX_PARTS:
            raise InvalidValueError(f"A file has parts from 1 to {MAX_PARTS}, none with the number {number}")
        self._folder = _folder(root, upload)
        self._number = number
        self._partial = self._folder / f"arriving-{secrets.token_hex(8)}"
        self._file = self._partial.open("xb")
        self._sum = 0

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._file.write(piece)
        self._sum = zlib.crc32(piece, self._sum)

    def finish(self) -> str:
        """Keep the part, and return the tag by which it is named at the end."""
        tag = f"{self._sum:08x}-{self._file.tell()}"
        self._file.close()
        self._partial.replace(self._folder / f"{self._number}-{tag}")
        return tag

    def discard(self) -> None:
        """Forget the part."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


def finish(root: Path, path: str, upload: str, tags: Mapping[int, str]) -> None:
    """Put a file together of its parts, named by their numbers from 1 and tags, and in its place.

    Raises:
        NotFoundError: there is no such upload.
        InvalidValueError: the upload is of another file, or a part is not there.
    """
    folder = _folder(root, upload)
    if (folder / _TARGET).read_text(encoding="utf-8") != check_path(path):
        raise InvalidValueError(f"The upload is not of '{path}'")
    parts = [folder / f"{number}-{_plain(tags.get(number, ''))}" for number in range(1, max(tags, default=1) + 1)]
    for number, part in enumerate(parts, start=1):
        if not part.is_file():
            raise InvalidValueError(f"Of '{path}' part {number} is not there")
    # Copied, for a server that is killed now must be able to do it again.
    writer = ArtifactWriter(root, path)
    try:
        for part in parts:
            with part.open("rb") as file:
                while piece := file.read(_PIECE):
                    writer.write(piece)
    except BaseException:
        writer.discard()
        raise
    writer.finish()
    shutil.rmtree(folder)


def abandon(root: Path, upload: str) -> None:
    """Forget a file that was begun.

    Raises:
        NotFoundError: there is no such upload.
    """
    shutil.rmtree(_folder(root, upload))


def _folder(root: Path, upload: str) -> Path:
    folder = root / f"{PARTIAL}{upload}"
    if not _ID.fullmatch(upload) or not folder.is_dir():
        raise NotFoundError(f"There is no upload '{upload[:40]}'")
    return folder


def _plain(tag: str) -> str:
    """Return a tag as we gave it; clients may pass it on in quotation marks."""
    bare = tag.strip('"')
    return bare if re.fullmatch(r"[0-9a-f]{8}-\d{1,20}", bare) else "none"
