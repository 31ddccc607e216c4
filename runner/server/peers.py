"""Which user of this machine is at the other end of a connection on the loopback address."""

import ipaddress
import sys
from pathlib import Path

Address = tuple[str, int]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LOCAL, _REMOTE, _UID = 1, 2, 7
_WORD = 4


def can_tell_users() -> bool:
    """Say whether the kernel tells whose connections are."""
    return _TABLES[0].exists()


def find_user(peer: Address, server: Address) -> int | None:
    """Return the user id of whoever made a connection from ``peer`` to ``server``, or None where that can't be seen.

    The tables are those of proc(5), "/proc/net/tcp". A socket for IPv6 may be the other end of one for IPv4.
    """
    for table in _TABLES:
        wanted = {(_as_text(peer, mapped=mapped), _as_text(server, mapped=mapped)) for mapped in (False, True)}
        try:
            lines = table.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split()
            if len(fields) > _UID and (fields[_LOCAL], fields[_REMOTE]) in wanted:
                return int(fields[_UID])
    return None


def _as_text(address: Address, *, mapped: bool) -> str:
    """Return an address as the kernel prints it: words of 32 bits as numbers of this machine, in hexadecimal."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    packed = host.packed
    if mapped and isinstance(host, ipaddress.IPv4Address):
        packed = bytes(10) + b"\xff\xff" + packed
    words = (int.from_bytes(packed[start : start + _WORD], sys.byteorder) for start in range(0, len(packed), _WORD))
    return f"{''.join(f'{word:08X}' for word in words)}:{address[1]:04X}"
