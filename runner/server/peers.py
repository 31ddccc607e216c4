"""Finds the local user at the other end of a TCP connection by asking the kernel."""

import contextlib
import ipaddress
import os
import socket
import struct
import sys
from itertools import count
from pathlib import Path
from typing import Protocol

from msgspec import Struct

Address = tuple[str, int]

ESTABLISHED = 1
"""The state TCP_ESTABLISHED of Linux: both ends are open."""

MAX_TABLE = 4 * 2**20
"""Maximum bytes of the kernel's connection table that are read: about 28,000 connections."""

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_numbers = count()
_LOCAL, _REMOTE, _STATE, _UID, _INODE = 1, 2, 3, 7, 9
_WORD = 4

# sock_diag(7): the request and the response for one TCP socket.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH16s16s")
_REST_OF_ID = struct.Struct("=III")
_NUMBERS = struct.Struct("=IIIII")


class KernelSocket(Struct, frozen=True):
    """The state of one socket in the kernel; ``inode`` is 0 when no process holds it."""

    state: int
    user: int
    inode: int


class HasOption(Protocol):
    """A socket, or the socket of an asyncio transport."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option as bytes."""
        ...


class Connection:
    """A connection; the application finds it in the ASGI state of each request.

    ``end`` is the socket of the server. The user is read from the kernel at most once, on first use.
    """

    def __init__(self, client: Address | None, server: tuple[str, int | None] | None, end: HasOption | None) -> None:
        self.host = client[0] if client else ""
        self.number = next(_numbers)
        self.is_admitted = False
        """Whether the guard has authenticated a request of this connection."""
        self._ends = (client, (server[0], server[1] or 0)) if client and server else None
        self._end = end
        self._reply: tuple[int | None] | None = None

    @property
    def user(self) -> int | None:
        """The id of the user whose process holds the other end; None when it can not be proven."""
        if self._reply is None:
            self._reply = (self._ask(),)
        return self._reply[0]

    def _ask(self) -> int | None:
        """Read the user from the kernel, and check afterwards that the server's end is still open.

        Without this check the entry could be of a later connection with the same port.
        """
        if self._ends is None or self._end is None:
            return None
        user = find_user(*self._ends)
        return user if user is not None and _is_established(self._end) else None


def can_tell_users() -> bool:
    """Check whether this system can tell the user of a connection."""
    return sys.platform == "linux" and _TABLES[0].exists()


def find_user(peer: Address, server: Address) -> int | None:
    """Return the user id of the process that holds the end ``peer`` of a connection to ``server``, or None.

    The connection must be established, and a process must hold its socket. The kernel reports user 0 for every socket
    that was closed before its data was read, whichever user closed it.
    """
    peer, server = _plain(peer), _plain(server)
    try:
        found = _ask_netlink(peer, server)
    except (OSError, struct.error):
        found = _read_table(peer, server)
    if found is None or found.state != ESTABLISHED or found.inode == 0:
        return None
    return found.user


def _is_established(end: HasOption) -> bool:
    """Check whether the server's end of a connection is open in both directions."""
    try:
        return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
    except (OSError, IndexError, AttributeError):
        return False


def _plain(address: Address) -> Address:
    """Remove the zone of an address, and convert an IPv4-mapped IPv6 address to IPv4."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return str(mapped or host), address[1]


def _ask_netlink(peer: Address, server: Address) -> KernelSocket | None:
    """Query the kernel for one socket by its two addresses; this takes 10 µs for any number of connections.

    Raises:
        OSError: this kernel, or this container, does not support sock_diag.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    ends = _PORTS.pack(peer[1], server[1], _packed(peer).ljust(16, b"\0"), _packed(server).ljust(16, b"\0"))
    wanted = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << ESTABLISHED) + ends
    wanted += _REST_OF_ID.pack(0, _NO_COOKIE, _NO_COOKIE)
    head = _HEADER.pack(_HEADER.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(1)
        asking.send(head + wanted)
        reply = asking.recv(8192)
    kind = _HEADER.unpack_from(reply)[1]
    if kind != _SOCK_DIAG_BY_FAMILY:
        number = -struct.unpack_from("=i", reply, _HEADER.size)[0]
        if number == 2:  # noqa: PLR2004  ENOENT: there is no such socket
            return None
        raise OSError(number, os.strerror(number))
    place = _HEADER.size
    state = reply[place + 1]
    ports = _PORTS.unpack_from(reply, place + 4)[:2]
    user, inode = _NUMBERS.unpack_from(reply, place + 4 + _PORTS.size + _REST_OF_ID.size)[3:]
    return KernelSocket(state, user, inode) if ports == (peer[1], server[1]) else None


def _read_table(peer: Address, server: Address) -> KernelSocket | None:
    """Search one socket in "/proc/net/tcp" and "/proc/net/tcp6", see proc(5); a table that is too long is ignored."""
    for table in _TABLES:
        wanted = {(_as_text(peer, mapped=mapped), _as_text(server, mapped=mapped)) for mapped in (False, True)}
        text = b""
        with contextlib.suppress(OSError), table.open("rb") as file:
            text = file.read(MAX_TABLE + 1)
        for line in text.decode("ascii", "replace").splitlines()[1:] if len(text) <= MAX_TABLE else ():
            fields = line.split()
            if len(fields) > _INODE and (fields[_LOCAL], fields[_REMOTE]) in wanted:
                return KernelSocket(int(fields[_STATE], 16), int(fields[_UID]), int(fields[_INODE]))
    return None


def _packed(address: Address) -> bytes:
    return ipaddress.ip_address(address[0]).packed


def _as_text(address: Address, *, mapped: bool) -> str:
    """Format an address as the kernel does: 32-bit words in native byte order, in hexadecimal."""
    packed = _packed(address)
    if mapped and len(packed) == _WORD:
        packed = bytes(10) + b"\xff\xff" + packed
    words = (int.from_bytes(packed[start : start + _WORD], sys.byteorder) for start in range(0, len(packed), _WORD))
    return f"{''.join(f'{word:08X}' for word in words)}:{address[1]:04X}"
