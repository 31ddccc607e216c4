"""Stores the key of a running local server: a random token in a file that only its user can read.

Commands of proj find it by the address of the server. Each start creates a new key, so the key file of a killed server
grants no access.
"""

import ipaddress
import os
import secrets
import stat
from pathlib import Path

from msgspec import Struct

from runner.base.files import write_atomically
from runner.errors import ServerError
from runner.settings import Home

PREFIX = "proj_local_"
"""The prefix of a key, which makes a leaked key recognizable."""

_FOLDER = "servers"
_LONGEST = 200


class ServerKey(Struct, frozen=True, kw_only=True):
    """The key of a server, and its file."""

    path: Path
    text: str

    def __repr__(self) -> str:
        return f"ServerKey({str(self.path)!r})"

    def remove(self) -> None:
        """Remove the file, unless a later server at the same address has replaced it."""
        if _read(self.path) == self.text:
            self.path.unlink(missing_ok=True)


def create(home: Home, host: str, port: int) -> ServerKey:
    """Create the key of a server that listens at a loopback address.

    Raises:
        ServerError: the file can't be written, or its folder belongs to another user.
    """
    path = _path(home, host, port)
    text = PREFIX + secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        write_atomically(path, text.encode(), mode=0o600)
    except OSError as error:
        raise ServerError(
            "The key of the server can't be written", context=str(error), hint="Check the folder, or set PROJ_HOME."
        ) from error
    return ServerKey(path=path, text=text)


def find(home: Home, host: str, port: int) -> str | None:
    """Return the key of the server at an address, or None.

    Only a numeric loopback address is accepted, because a host name may resolve to an address of another user's server.
    """
    return _read(_path(home, host, port)) if _is_loopback(host) else None


def _path(home: Home, host: str, port: int) -> Path:
    return home.root / _FOLDER / f"{ipaddress.ip_address(host).compressed.replace(':', '.')}-{port}.key"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str | None:
    """Return the content of a key file that belongs to this user and that no other user can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return None
        text = file.read(_LONGEST).strip()
    return text if text.startswith(PREFIX) and text.isascii() else None
