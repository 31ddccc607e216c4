"""Checks artifact paths, and escapes file names that text protocols can't carry.

Inside proj, and in every protocol, the path of an artifact is text that `check_path` accepts. A file name is bytes. A
name that is not acceptable text (control characters, bytes that are not UTF-8, ``d:`` and the like) is written in an
escaped form, one component at a time::

    .proj-name=  then the name, each byte that is not a letter, a digit or one of ``. _ -`` as ``=`` and two hex digits

so ``a<newline>b`` is ``.proj-name=a=0Ab``. Each name has exactly one such form, and each form exactly one name.
"""

import os
import re
from urllib.parse import unquote

from runner.base.files import PARTIAL
from runner.errors import InvalidValueError

ESCAPED = ".proj-name="
"""Prefix of an escaped name."""
MAX_PATH = 1000
"""Maximum number of characters of a path from a client."""
MAX_NAME = 255
"""Maximum size in bytes of a file name on common file systems."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:(?=[/\\])|\\" if os.name != "nt" else r"[A-Za-z]:|\\")
_UNESCAPED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ORDINARY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", re.ASCII)
"""Names that are safe in every form; the general check takes 60 µs."""
_FORM = re.compile(r"(?:[A-Za-z0-9._-]|=[0-9A-F]{2})+")


def check_path(path: str, longest: int = MAX_PATH) -> str:
    """Return the path of an artifact, relative to its root, if it is safe; a trailing slash is dropped.

    Raises:
        InvalidValueError: the path is absolute, has ``..`` or control characters, or contains them percent-encoded.
    """
    relative = path.removesuffix("/")
    if len(relative) > longest or not _is_safe(relative):
        shown = _CONTROL.sub("?", path[:120]).encode("utf-8", "replace").decode()
        raise InvalidValueError(
            f"Invalid path of an artifact: '{shown}'", hint="Use a relative path of plain names without '..'."
        )
    return relative


def names_of(path: str, longest: int = MAX_PATH) -> tuple[str, ...]:
    """Return the path components as names on disk; bytes that are not UTF-8 become surrogate escapes.

    Raises:
        InvalidValueError: the path is unsafe, or has an invalid escaped name.
    """
    return tuple(_unescaped(part) for part in check_path(path, longest).split("/"))


def as_text(name: str) -> str:
    """Return a file name as used in paths: unchanged, or escaped."""
    if _ORDINARY.fullmatch(name):
        return name
    if not name.startswith(ESCAPED) and _is_safe(name) and _is_safe(f"{name}/x"):
        return name
    return ESCAPED + "".join(chr(byte) if byte in _UNESCAPED else f"={byte:02X}" for byte in os.fsencode(name))


def is_possible(name: str) -> bool:
    """Return whether a file can have a name; names of files that are still being written are excluded."""
    return (
        name not in ("", ".", "..")
        and "/" not in name
        and "\0" not in name
        and not name.startswith(PARTIAL)
        and len(os.fsencode(name)) <= MAX_NAME
    )


def fault_of(path: str) -> str | None:
    """Return why a path is not valid in a protocol, or None; even an escaped name may be too long."""
    if any(len(part.encode()) > MAX_NAME for part in path.split("/")):
        return f"its name is longer than {MAX_NAME} bytes once it is escaped"
    return f"its path is longer than {MAX_PATH} characters" if len(path) > MAX_PATH else None


def _unescaped(part: str) -> str:
    if not part.startswith(ESCAPED):
        return part
    form = part[len(ESCAPED) :]
    if _FORM.fullmatch(form):
        plain = re.sub(r"=([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), form).encode("latin-1")
        name = os.fsdecode(plain)
        # Each name has one form: a plain name must not be escaped.
        if is_possible(name) and as_text(name) == part:
            return name
    raise InvalidValueError(f"This is no escaped name of an artifact: '{part[:120]}'")


def _is_safe(path: str) -> bool:
    """Return whether a path is safe, also after percent-decoding it once more."""
    decoded = unquote(path)
    return all(_is_plain(form) for form in (path, decoded, unquote(decoded)))


def _is_plain(path: str) -> bool:
    if _CONTROL.search(path) or _DRIVE.match(path) or not _is_encodable(path):
        return False
    if any(part in ("", ".") or len(part.encode()) > MAX_NAME for part in path.split("/")):
        return False
    # Windows accepts both slashes as separators.
    return not any(part == ".." or part.startswith(PARTIAL) for part in re.split(r"[/\\]", path))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
