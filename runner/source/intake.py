"""Reads files once, hashes them, and writes missing contents to the snapshot store."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from msgspec import Struct

from runner.base.files import Stamp
from runner.settings import Home
from runner.source.gitcommand import run_concurrently
from runner.source.packing import PackWriter
from runner.source.snapshot_store import Content, absent_objects, open_snapshot_store, write_loose

_MANY, _MUCH = 64, 8 << 20
"""More files or bytes than this are written as one pack instead of one file for each object."""
_CHUNK, _CHUNK_FILES = 32 << 20, 4000
"""Bytes and files that are in memory at the same time."""
_ATTEMPTS = 3
_TICK = 20_000_000
"""Nanoseconds within which two writes may give a file the same timestamp."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StoredFile(Struct, frozen=True, array_like=True):
    """A stored file: git's mode, the blob's id, and its status; None if the file is too new to detect a change."""

    mode: bytes
    identity: str
    status: os.stat_result | None


class IntakeResult(Struct, frozen=True, kw_only=True):
    """The stored files, and the refused files with the reason.

    A reason is ``vanished``, ``unreadable``, ``special`` or ``large``.
    """

    taken: dict[bytes, StoredFile]
    refused: dict[bytes, str]


class _RefusedError(Exception):
    """A file can't be stored; the text is the reason."""


def store_files(home: Home, top: bytes, sizes: dict[bytes, int], limit: int) -> IntakeResult:
    """Store files below ``top`` in the snapshot store; ``sizes`` has the expected size of each path.

    Raises:
        SnapshotError: the snapshot store can't be read.
        OSError: the snapshot store can't be written.
    """
    found = IntakeResult(taken={}, refused={})
    with ExitStack() as stack:
        writer = None
        if len(sizes) > _MANY or sum(sizes.values()) > _MUCH:
            writer = stack.enter_context(PackWriter(open_snapshot_store(home) / "objects"))
        written: set[str] = set()
        for chunk in _chunks(sizes):
            half = len(chunk) // 2
            parts = run_concurrently(
                partial(_read_all, top, chunk[:half], limit, found),
                partial(_read_all, top, chunk[half:], limit, found),
            )
            contents = {one.identity: one for part in parts for one in part if one.identity not in written}
            if writer is None:
                write_loose(home, contents.values())
                continue
            for identity in absent_objects(home, contents):
                writer.add("blob", identity, contents[identity].data)
                written.add(identity)
    return found


def _chunks(sizes: dict[bytes, int]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    total = 0
    for path, size in sizes.items():
        if chunk and (total + size > _CHUNK or len(chunk) >= _CHUNK_FILES):
            yield chunk
            chunk, total = [], 0
        chunk.append(path)
        total += size
    if chunk:
        yield chunk


def _read_all(top: bytes, paths: Sequence[bytes], limit: int, found: IntakeResult) -> list[Content]:
    contents: list[Content] = []
    for path in paths:
        try:
            mode, data, status = _read(os.path.join(top, path), limit)  # noqa: PTH118  # bytes have no Path
        except _RefusedError as refusal:
            found.refused[path] = str(refusal)
            continue
        identity = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        contents.append(Content(identity, "blob", data))
        found.taken[path] = StoredFile(mode, identity, status)
    return contents


def _read(path: bytes, limit: int) -> tuple[bytes, bytes, os.stat_result | None]:
    """Return git's mode, the content, and the status; None if the status can't prove later that nothing changed."""
    last: tuple[bytes, bytes, None] | None = None
    for _ in range(_ATTEMPTS):
        try:
            before = os.lstat(path)
            if stat.S_ISLNK(before.st_mode):
                mode, data, after = b"120000", os.readlink(path), os.lstat(path)  # noqa: PTH115  # bytes have no Path
            else:
                mode, data, after = _read_file(path, limit)
        except FileNotFoundError as error:
            raise _RefusedError("vanished") from error
        except OSError as error:
            if error.errno == errno.ELOOP:  # the file was replaced by a link
                continue
            raise _RefusedError("unreadable") from error
        if Stamp.of(before) == Stamp.of(after):
            is_young = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) < _TICK
            return mode, data, None if is_young else after
        last = mode, data, None
    if last is None:
        raise _RefusedError("unreadable")
    return last


def _read_file(path: bytes, limit: int) -> tuple[bytes, bytes, os.stat_result]:
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("special")
        if status.st_size > limit:
            raise _RefusedError("large")
        data = file.readall() or b""
        if len(data) > limit:
            raise _RefusedError("large")
        mode = b"100755" if status.st_mode & stat.S_IXUSR else b"100644"
        return mode, data, os.fstat(descriptor)
