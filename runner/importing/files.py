"""Reads the files of an ``mlruns`` folder safely: follows no links, opens no pipes, limits memory."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import msgspec

from runner.base.foreign_text import ForeignTextError, Limits, parse_yaml
from runner.errors import TransferError

_MAX_TEXT = 4_000_000
"""Maximum size in bytes of a file that is read as a whole."""
_MAX_DEPTH = 50
_LIMITS = Limits(size=_MAX_TEXT)
_MERGE = r"(?m)<<['\"]?\s*:"
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"})
"""Files that file managers and editors create in folders."""

Shape = TypeVar("Shape")
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that the store can hold."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, unless it is a link, a device or a pipe.

    Raises:
        TransferError: the file is not a regular file, or can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TransferError("A file can't be read", context=f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TransferError("This is not a regular file", context=str(path))
    return os.fdopen(descriptor, "rb")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        TransferError: the file can't be read, is too large, or is not UTF-8.
    """
    with open_regular(path) as file:
        data = file.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise TransferError("A file is too large", context=f"{path} has more than {_MAX_TEXT} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TransferError("A file is not UTF-8 text", context=f"{path}:{line}: {error.reason}") from error


def read_meta(path: Path, shape: type[Shape]) -> Shape:
    """Return the content of a ``meta.yaml`` file as ``shape``. Only plain values are created, whatever its YAML tags.

    Raises:
        TransferError: the file can't be read or does not match ``shape``.
    """
    text = read_text(path)
    if re.search(_MERGE, text):
        # MLflow writes no merge keys.
        raise TransferError("A file of the store has a YAML merge key, which is not supported", context=str(path))
    try:
        content = parse_yaml(text, _LIMITS)
    except ForeignTextError as error:
        raise TransferError("A file can't be read", context=f"{path}{error.location}: {error.problem}") from None
    try:
        found = msgspec.convert(content, shape)
        # YAML escapes can produce surrogates, which are not valid text.
        msgspec.msgpack.encode(found)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError, OverflowError) as error:
        raise TransferError(
            "A file of the store has unexpected content", context=f"{path}{_line_of(error, text)}: {error}"
        ) from error
    return found


def folders(path: Path) -> list[str]:
    """Return the names of the subfolders of a folder, sorted, without links; empty if the folder does not exist."""
    if path.is_symlink():
        return []
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TransferError("A folder can't be read", context=f"{path}: {error.strerror}") from error


def links(path: Path) -> list[str]:
    """Return the names of the links to folders in a folder, sorted."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_symlink() and Path(entry.path).is_dir())
    except OSError:
        return []


def walk(root: Path, before: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every regular file below a folder with its relative path, sorted; skips links."""
    if before.count("/") > _MAX_DEPTH:
        raise TransferError("Folders are nested too deeply", context=str(root))
    if root.is_symlink():
        return
    try:
        with os.scandir(root) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise TransferError("A folder can't be read", context=f"{root}: {error.strerror}") from error
    for entry in found:
        if entry.name in _JUNK:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), f"{before}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield before + entry.name, Path(entry.path)


def read_values(root: Path) -> Iterator[tuple[str, str]]:
    """Yield name and content of every file below a folder, the format of parameters and tags in the file store."""
    for name, path in walk(root):
        yield name, read_text(path)


def _line_of(error: BaseException, text: str) -> str:
    """Return the line of the key that an error refers to, as part of a location."""
    key = str(error).partition("$.")[2].strip("`")
    for number, line in enumerate(text.splitlines(), start=1):
        if key and line.startswith(f"{key}:"):
            return f":{number}"
    return ""
