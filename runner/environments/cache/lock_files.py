"""Reads and writes the lock files in proj's home; the first line of each has its name, package count and checksum."""

import re
from pathlib import Path

from runner.base.checksummed_files import DamagedFileError, checksum
from runner.base.files import write_atomically
from runner.model import Event, EventKind, Report

_CHECKSUM_LINE = re.compile(r"# kept as (?P<name>\S+): (?P<count>\d+) packages, sha256 (?P<sha256>[0-9a-f]{64})")


def write_lock_file(path: Path, text: str, count: int) -> str:
    """Write a lock of ``count`` packages durably, and return its text with the checksum line."""
    digest = checksum(f"{path.name} {count}", text.encode())
    content_with_checksum = f"# kept as {path.name}: {count} packages, sha256 {digest}\n{text}"
    write_atomically(path, content_with_checksum.encode(), durable=True)
    return content_with_checksum


def read_lock_file(path: Path) -> str | None:
    """Return the text of a lock, or None if the file does not exist.

    Raises:
        DamagedFileError: the content does not match the checksum line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedFileError(path, f"it can't be read: {error.strerror}") from error
    check_lock(path, data, path.name)
    return data.decode()


def check_lock(path: Path, data: bytes, name: str | None) -> None:
    """Verify a lock with its checksum line; ``name`` is the expected name, None for a copy under another name.

    Raises:
        DamagedFileError: the content does not match the checksum line.
    """
    line, _, content = data.partition(b"\n")
    match = _CHECKSUM_LINE.fullmatch(line.decode("ascii", "replace"))
    if match is None:
        raise DamagedFileError(path, "it has no checksum" if data else "it is empty")
    if name is not None and match["name"] != name:
        raise DamagedFileError(path, f"its content is that of the lock {match['name']}")
    if match["sha256"] != checksum(f"{match['name']} {match['count']}", content):
        raise DamagedFileError(path, f"its content has changed since it was written with {match['count']} packages")


def has_checksum(data: bytes) -> bool:
    """Return whether a lock has a checksum line; the locks in projects have none."""
    return data.startswith(b"# kept as ")


def read_valid_lock(path: Path) -> str | None:
    """Return the text of a lock, or None if it does not exist or is damaged."""
    try:
        return read_lock_file(path)
    except DamagedFileError:
        return None


def report_damage(path: Path, report: Report) -> None:
    """Report a warning if a lock is damaged, before it is resolved again."""
    try:
        read_lock_file(path)
    except DamagedFileError as damage:
        message = f"The stored lock {path.name} is damaged: {damage.problem}. It is resolved again"
        hint = "Versions may differ from those of earlier runs where the lock was not made for a date."
        report(Event(kind=EventKind.WARNING, message=message, hint=hint))
