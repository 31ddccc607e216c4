"""Writes git packs without compression: one file and one fsync for any number of objects.

The formats are those of gitformat-pack(5): a pack of version 2 and its index of version 2.
"""

import hashlib
import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from runner.base.files import sync_folder
from runner.source.durable import write_durably

if TYPE_CHECKING:
    from typing_extensions import Self

_KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_LARGE_OFFSET = 1 << 31
_CHUNK = 1 << 20
_INDEX_HEAD = 8 + 256 * 4


class PackWriter:
    """Writes objects into one new pack in a folder of objects; the pack exists when the block ends without an error.

    The caller gives each id once, the id is correct, and the folder does not have the object. Without objects no pack
    is written. The pack, its index and their names are synced to disk when the block ends.
    """

    def __init__(self, objects: Path) -> None:
        self._folder = objects / "pack"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._staging = self._folder / f"tmp_pack_{os.urandom(8).hex()}"  # `git gc` removes files with this prefix
        self._file = self._staging.open("xb+", buffering=_CHUNK)
        self._file.write(b"PACK" + struct.pack(">II", 2, 0))
        self._offset = self._file.tell()
        self._entries: list[tuple[bytes, int, int]] = []

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._entries:
                self._finish()
        finally:
            self._file.close()
            self._staging.unlink(missing_ok=True)

    def add(self, kind: str, identity: str, content: bytes) -> None:
        """Add one object."""
        head = _entry_head(_KINDS[kind], len(content))
        body = zlib.compress(content, 0)
        self._entries.append((bytes.fromhex(identity), zlib.crc32(body, zlib.crc32(head)), self._offset))
        self._file.write(head)
        self._file.write(body)
        self._offset += len(head) + len(body)

    def _finish(self) -> None:
        self._file.seek(8)
        self._file.write(struct.pack(">I", len(self._entries)))
        self._file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        self._file.write(digest.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        name = f"pack-{digest.hexdigest()}"
        index = self._staging.with_suffix(".idx")
        try:
            write_durably(index, _index(self._entries, digest.digest()))
            for path in (self._staging, index):
                path.chmod(0o444)
            self._staging.replace(self._folder / f"{name}.pack")
            index.replace(self._folder / f"{name}.idx")  # git looks for the index, so the index is moved last
        finally:
            index.unlink(missing_ok=True)
        sync_folder(self._folder)


def _entry_head(kind: int, size: int) -> bytes:
    """Return the header of an entry: three bits of kind and the size, with seven bits a byte after the first four."""
    byte = kind << 4 | size & 15
    size >>= 4
    found = bytearray()
    while size:
        found.append(byte | 128)
        byte = size & 127
        size >>= 7
    found.append(byte)
    return bytes(found)


def _index(entries: list[tuple[bytes, int, int]], pack: bytes) -> bytes:
    entries = sorted(entries)
    counts = [0] * 256
    for identity, _, _ in entries:
        counts[identity[0]] += 1
    total = 0
    fanout = [total := total + count for count in counts]
    large = [offset for _, _, offset in entries if offset >= _LARGE_OFFSET]
    ranks = {offset: number for number, offset in enumerate(large)}
    small = [_LARGE_OFFSET | ranks[offset] if offset >= _LARGE_OFFSET else offset for _, _, offset in entries]
    count = len(entries)
    data = b"".join(
        (
            b"\377tOc" + struct.pack(">I256I", 2, *fanout),
            b"".join(identity for identity, _, _ in entries),
            struct.pack(f">{count}I", *(checksum for _, checksum, _ in entries)),
            struct.pack(f">{count}I", *small),
            struct.pack(f">{len(large)}Q", *large),
            pack,
        )
    )
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def read_index(path: Path) -> list[str]:
    """Return the sorted ids in a pack's index.

    Raises:
        ValueError: the file is not an index of version 2, or is truncated.
        OSError: the file can't be read.
    """
    data = path.read_bytes()
    if data[:8] != b"\377tOc\0\0\0\2" or len(data) < _INDEX_HEAD:
        raise ValueError("the file is not a pack index of version 2")
    count = int.from_bytes(data[_INDEX_HEAD - 4 : _INDEX_HEAD], "big")
    if len(data) < _INDEX_HEAD + count * 28:
        raise ValueError("the pack index is truncated")
    names = data[_INDEX_HEAD : _INDEX_HEAD + count * 20]
    return [names[start : start + 20].hex() for start in range(0, len(names), 20)]
