"""Checks the lock of a bundle: hashes for every package, and no addresses that the user did not agree to."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from runner.base.foreign_text import LARGE, ForeignTextError, decode_limited, parse_yaml, read_limited
from runner.environments.declare.requirements import logical_lines
from runner.environments.model import Interpreter
from runner.environments.resolve.locking import read_lock
from runner.errors import BundleError
from runner.model import RunRecord
from runner.urls import without_credentials

_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,. -]*\])?==[^\s;@]+(\s*;.*)?")
_HASH = re.compile(r"sha(256|384|512):[0-9a-f]+")
_DIRECT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,. -]*\])?\s*@\s*(?P<url>\S+)(?P<rest>.*)")
_SAFE_OPTION = re.compile(r"--(only-binary|no-binary)[ =][\w.,:-]+")
_SCHEMES = ("https", "git+https", "git+ssh")
_ADDRESS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://\S+")


def check_lock(path: Path, record: RunRecord, name: str) -> tuple[str, ...]:
    """Check the lock of a run, and return the addresses that it names.

    Raises:
        BundleError: it differs from its digest in the record, has lines without a hash, options of pip, or paths.
    """
    try:
        text = decode_limited(read_limited(path, LARGE), LARGE)
        if path.name != "lock.txt":
            return _conda_addresses(text)
    except (ForeignTextError, OSError) as error:
        raise BundleError(f"{name} is damaged: its lock can't be read", context=str(error)) from error
    digest = read_lock(text, Interpreter(path="", version="", implementation="", platform="")).digest
    if record.environment is not None and record.environment.lock_digest != digest:
        raise BundleError(f"{name} is damaged: its lock is not the one that its record names")
    return tuple(dict.fromkeys(found for line in logical_lines(text) if (found := _address_in(line.text, name))))


def _address_in(line: str, name: str) -> str | None:
    """Return the address of a direct reference; None for a pinned package."""
    flat = " ".join(line.replace("\\\n", " ").split())
    if not flat or flat.startswith("#") or _is_pinned(flat) or _SAFE_OPTION.fullmatch(flat):
        return None
    direct = _DIRECT.fullmatch(flat)
    if direct and urlsplit(direct["url"]).scheme.lower() in _SCHEMES:
        return without_credentials(direct["url"])
    raise BundleError(
        f"{name} is refused: its lock has a line that is no package with a hash",
        context=without_credentials(flat[:200]),
        hint="A lock names packages by version and hash, without options of pip and without paths.",
    )


def _is_pinned(line: str) -> bool:
    head, *hashes = line.split(" --hash=")
    return bool(hashes) and all(map(_HASH.fullmatch, hashes)) and _PIN.fullmatch(head) is not None


def _conda_addresses(text: str) -> tuple[str, ...]:
    """Return the hosts that a lock of conda packages downloads from."""
    parse_yaml(text, LARGE)
    found = (urlsplit(without_credentials(match[0])) for match in _ADDRESS.finditer(text))
    return tuple(dict.fromkeys(f"{parts.scheme}://{parts.hostname}" for parts in found))
