"""Files that carry a checksum and their own name, so that damage is noticed when they are read.

The first line is a small JSON object, the content follows as it is. A file that was truncated, emptied, edited or that
has the content of another one does not pass.
"""

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.files import write_atomically


class DamagedFileError(Exception):
    """A file of proj's home is not as it was written; ``problem`` says in what."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class _Seal(Struct, frozen=True):
    sha256: str


def write_sealed(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write content with its checksum, as a whole."""
    line = msgspec.json.encode(_Seal(sha256=checksum(path.name, content)))
    write_atomically(path, line + b"\n" + content, durable=durable)


def read_sealed(path: Path) -> bytes:
    """Return the content of a file that `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: it is not as it was written, or can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(path, f"it can't be read: {error.strerror}") from error
    line, end, content = data.partition(b"\n")
    try:
        seal = msgspec.json.decode(line, type=_Seal)
    except msgspec.DecodeError:
        raise DamagedFileError(path, "it has no checksum" if data else "it is empty") from None
    if not end or seal.sha256 != checksum(path.name, content):
        raise DamagedFileError(path, "its content does not have its checksum")
    return content


def checksum(name: str, content: bytes) -> str:
    """Return the SHA-256 in hex of a name and a content."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()
