"""Assembles artifacts from parts that are uploaded in parallel; the file appears when it is complete."""

import os
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runner.base.files import PARTIAL
from runner.base.safe_paths import folder_at, new_file, open_file, remove_at, split_root, status_at
from runner.errors import InvalidValueError, NotFoundError
from runner.store.artifact_paths import check_path, names_of
from runner.store.artifacts import ArtifactWriter
from runner.store.staging import staging_folder

MAX_PARTS = 10_000

_PIECE = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{32}")
_TARGET = "target"
_MAX_TARGET = 64 * 1024


def begin(root: Path, path: str) -> str:
    """Begin an upload, and return its id.

    Raises:
        InvalidValueError: the path is unsafe.
    """
    checked = check_path(path)
    names_of(checked)
    upload = secrets.token_hex(16)
    top, names = staging_folder(root)
    with folder_at(top, (*names, f"{PARTIAL}{upload}"), create=True) as folder:
        descriptor = new_file(folder, _TARGET)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_note(root, checked))
    return upload


class PartWriter:
    """Writes one part in pieces. End with `finish` or `discard`.

    Raises:
        NotFoundError: there is no such upload for this root.
        InvalidValueError: the part number is invalid.
    """

    def __init__(self, root: Path, upload: str, number: int) -> None:
        if not 1 <= number <= MAX_PARTS:
            raise InvalidValueError(f"The part number must be from 1 to {MAX_PARTS}; got {number}")
        self._root = root
        self._upload = upload
        self._number = number
        self._partial = f"arriving-{secrets.token_hex(8)}"
        with _folder(root, upload) as folder:
            self._file = os.fdopen(new_file(folder, self._partial), "wb", buffering=0)
        self._sum = 0
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]
        self._size += len(piece)
        self._sum = zlib.crc32(piece, self._sum)

    def finish(self) -> str:
        """Keep the part, and return its tag for `finish`."""
        tag = f"{self._sum:08x}-{self._size}"
        self._file.close()
        with _folder(self._root, self._upload) as folder:
            os.rename(self._partial, f"{self._number}-{tag}", src_dir_fd=folder, dst_dir_fd=folder)
        return tag

    def discard(self) -> None:
        """Discard the part."""
        self._file.close()
        try:
            with _folder(self._root, self._upload) as folder:
                os.unlink(self._partial, dir_fd=folder)
        except (NotFoundError, FileNotFoundError):  # the whole upload was abandoned
            return


def finish(root: Path, path: str, upload: str, tags: Mapping[int, str]) -> None:
    """Assemble the file from its parts, given by part numbers from 1 and tags, and publish it.

    Raises:
        NotFoundError: there is no such upload.
        InvalidValueError: the upload is of another file, or a part is missing.
    """
    with _folder(root, upload) as folder:
        if _read_note(folder) != _note(root, check_path(path)):
            raise InvalidValueError(f"The upload is not of '{path}'")
        parts = [f"{number}-{_plain(tags.get(number, ''))}" for number in range(1, max(tags, default=1) + 1)]
        for number, part in enumerate(parts, start=1):
            if status_at(folder, part) is None:
                raise InvalidValueError(f"Part {number} of '{path}' is missing")
        # Copied, so that the assembly can be repeated if the server is killed now.
        writer = ArtifactWriter(root, path)
        try:
            for part in parts:
                with open_file(folder, part) as file:
                    while piece := file.read(_PIECE):
                        writer.write(piece)
            writer.finish()
        except BaseException:
            writer.discard()
            raise
    abandon(root, upload)


def abandon(root: Path, upload: str) -> None:
    """Abandon an upload.

    Raises:
        NotFoundError: there is no such upload.
    """
    with _folder(root, upload):
        pass
    top, names = staging_folder(root)
    with folder_at(top, names) as above:
        remove_at(above, f"{PARTIAL}{upload}")


@contextmanager
def _folder(root: Path, upload: str) -> Iterator[int]:
    """Open the folder of an upload for this root."""
    top, names = staging_folder(root)
    absent = NotFoundError(f"There is no upload '{upload[:40]}'")
    if not _ID.fullmatch(upload):
        raise absent
    manager = folder_at(top, (*names, f"{PARTIAL}{upload}"))
    try:
        folder = manager.__enter__()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise absent from error
    try:
        if not _read_note(folder).startswith(_note(root, "")):
            raise absent
        yield folder
    finally:
        manager.__exit__(None, None, None)


def _note(root: Path, path: str) -> bytes:
    """Return the content of an upload's note: root and path of the file."""
    return "\n".join(("/".join(split_root(root)[1]), path)).encode()


def _read_note(folder: int) -> bytes:
    with open_file(folder, _TARGET) as file:
        return file.read(_MAX_TARGET)


def _plain(tag: str) -> str:
    """Return a tag without quotation marks, which clients may add."""
    bare = tag.strip('"')
    return bare if re.fullmatch(r"[0-9a-f]{8}-\d{1,20}", bare) else "none"
