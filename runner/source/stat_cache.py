"""Writes file status into a git index, so that git does not read the files again.

The format is that of gitformat-index(5), version 2 and 3.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.base.files import write_atomically

_HEAD, _ENTRY = 12, 62
_DIGEST = 20
_FEW = 64
"""Up to this number, entries are searched one by one instead of parsing the whole index."""
_EXTENDED = 0x4000
_LENGTH = 0x0FFF
_WORD = 0xFFFFFFFF


def fill_stats(index: Path, known: Mapping[bytes, tuple[str, os.stat_result]]) -> None:
    """Store the status of files in an index; ``known`` has the blob id and the status of each path.

    An index of another version is not changed: git then reads the files itself.
    """
    data = bytearray(index.read_bytes())
    if data[:4] != b"DIRC" or int.from_bytes(data[4:8], "big") not in (2, 3):
        return
    offsets = _search(data, known) if len(known) <= _FEW else _walk(data)
    for start, path in offsets:
        found = known.get(path)
        if found and data[start + 40 : start + 60].hex() == found[0]:
            data[start : start + 40] = _pack(found[1])
    data[-_DIGEST:] = hashlib.sha1(data[:-_DIGEST], usedforsecurity=False).digest()
    write_atomically(index, bytes(data))


def _pack(status: os.stat_result) -> bytes:
    """Return the ten numbers of an entry. git stores the modes 0644 and 0755 only."""
    mode = 0o120000 if stat.S_ISLNK(status.st_mode) else 0o100755 if status.st_mode & stat.S_IXUSR else 0o100644
    times = (*divmod(status.st_ctime_ns, 10**9), *divmod(status.st_mtime_ns, 10**9))
    rest = (status.st_dev, status.st_ino, mode, status.st_uid, status.st_gid, status.st_size)
    return struct.pack(">10I", *(number & _WORD for number in (*times, *rest)))


def _walk(data: bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the path of each entry."""
    start = _HEAD
    for _ in range(int.from_bytes(data[8:12], "big")):
        name = start + _ENTRY
        if int.from_bytes(data[name - 2 : name], "big") & _EXTENDED:
            name += 2
        end = data.index(0, name)
        yield start, bytes(data[name:end])
        start += (end - start + 8) // 8 * 8


def _search(data: bytearray, paths: Mapping[bytes, object]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the path of a few entries, found by their bytes: length, name, NUL."""
    for path in paths:
        entry = min(len(path), _LENGTH).to_bytes(2, "big") + path + b"\0"
        position = data.find(entry, _HEAD)
        if position >= 0:
            yield position + 2 - _ENTRY, path
