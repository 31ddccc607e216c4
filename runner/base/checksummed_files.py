"""Reads and writes files with a checksum of their name and content, to detect damage.

The first line is a small JSON object, followed by the content. A truncated, empty or edited file, or a file with the
content of another one, is refused.
"""

import hashlib
from pathlib import Path

from runner.base.files import write_atomically

_START = b'{"sha256":"'


class DamagedFileError(Exception):
    """A file of proj's home is damaged; ``problem`` is the reason."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def write_checksummed(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write content with its checksum atomically."""
    write_atomically(path, _with_checksum(path.name, content) + content, durable=durable)


def read_checksummed(path: Path) -> bytes:
    """Return the content of a file that `write_checksummed` wrote.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedFileError: the file is damaged or can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(path, f"it can't be read: {error.strerror}") from error
    line, end, content = data.partition(b"\n")
    if not line.startswith(_START):
        raise DamagedFileError(path, "it has no checksum" if data else "it is empty")
    if line + end != _with_checksum(path.name, content):
        raise DamagedFileError(path, "its content does not have its checksum")
    return content


def checksum(name: str, content: bytes) -> str:
    """Return the SHA-256 in hex of a name and a content."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()


def _with_checksum(name: str, content: bytes) -> bytes:
    return _START + checksum(name, content).encode() + b'"}\n'
