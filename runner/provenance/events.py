"""Reads the lines in which the trace hook, or the tracer of the supervisor, noted what a command used."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct, field

from runner.base.files import open_regular

MOST_READ = 64 << 20
"""Bytes of lines that are read."""
_FIELDS = {
    "s": 3,
    "r": 3,
    "w": 3,
    "b": 3,
    "d": 3,
    "p": 2,
    "c": 2,
    "g": 2,
    "n": 1,
    "x": 1,
    "u": 0,
    "L": 0,
    "k": 2,
    "z": 0,
}
"""Number of fields after the process, by the letter of the line: see `Events`."""


class Opened(Struct, frozen=True):
    """A file when it was first opened; ``size`` and ``modified`` (ns) are None if it did not exist."""

    how: str
    """``r``: to read; ``w``: to write it anew; ``b``: to read and write; ``d``: as a database."""
    size: int | None
    modified: int | None

    @property
    def is_read(self) -> bool:
        """Whether the content that it had before the run could be read."""
        return self.how != "w"


class Events(Struct):
    """What a command was seen to use."""

    files: dict[str, Opened] = field(default_factory=dict)
    """By normalised path, as first opened."""
    read_later: set[str] = field(default_factory=set)
    """The files that were first written, and read afterwards."""
    pythons: set[int] = field(default_factory=set)
    """The processes of the Pythons that loaded the hook."""
    prefixes: set[str] = field(default_factory=set)
    """The folders in which these Pythons are installed."""
    starts: Counter[int] = field(default_factory=Counter)
    """The number of Pythons with the hook by the process that started them."""
    programs: Counter[tuple[int, str, bool]] = field(default_factory=Counter)
    """Programs that a Python started: by its process, their name, and whether a Python there can't load the hook."""
    connections: dict[str, str] = field(default_factory=dict)
    """Ports by the address of a connection."""
    hosts: dict[str, str] = field(default_factory=dict)
    """Ports by the name of a host that was looked up."""
    native: set[str] = field(default_factory=set)
    """Modules and libraries that open files in compiled code."""
    unseeded: set[str] = field(default_factory=set)
    """Generators of random numbers that were used without a seed: ``random``, ``numpy``."""
    faults: Counter[str] = field(default_factory=Counter)
    """What the tracer saw and could not follow, with its number."""
    unresolved: int = 0
    """Names relative to a folder's descriptor."""
    damaged: int = 0
    """Lines that can't be read."""
    is_whole: bool = False
    """Whether the tracer saw the end of the last process."""
    is_cut: bool = False
    """Whether there were more lines than are written or read."""


def read_events(path: Path) -> Events:
    """Return the events of a file, which any process of the command may have written to; lines are not trusted.

    Raises:
        OSError: the file can't be read, or is no regular file.
    """
    events = Events()
    with open_regular(path) as file:
        data = file.read(MOST_READ)
        events.is_cut = bool(file.read(1))
    for line in data.split(b"\n"):
        fields = _fields(line)
        if fields is not None:
            _add(events, *fields)
        elif line:
            events.damaged += 1
    return events


def _fields(line: bytes) -> tuple[str, int, list[str]] | None:
    """Return letter, process and fields of a line, None if it is damaged."""
    kind, *rest = os.fsdecode(line).split("\t")
    if _FIELDS.get(kind) != len(rest) - 1 or not _is_number(rest[0]):
        return None
    return kind, int(rest[0]), [_unescape(one) for one in rest[1:]]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20  # noqa: PLR2004  digits of 64 bits


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts = [part.replace("\\n", "\n").replace("\\t", "\t") for part in text.split("\\\\")]
    return "\\".join(parts)


def _add(events: Events, kind: str, process: int, fields: list[str]) -> None:
    if kind in "rwbd":
        _add_file(events, kind, *fields)
    elif kind == "s":
        events.pythons.add(process)
        events.prefixes.update(one for one in fields[1:] if one.startswith("/") and len(one) > 1)
        events.starts[int(fields[0]) if _is_number(fields[0]) else 0] += 1
    elif kind == "p":
        events.programs[process, fields[0], bool(fields[1])] += 1
    elif kind in "cg":
        (events.connections if kind == "c" else events.hosts).setdefault(fields[0], fields[1])
    elif kind in "nx":
        (events.native if kind == "n" else events.unseeded).add(fields[0])
    elif kind == "k":
        events.faults[fields[0]] += int(fields[1]) if _is_number(fields[1]) else 1
    elif kind == "z":
        events.is_whole = True
    elif kind == "u":
        events.unresolved += 1
    else:
        events.is_cut = True


def _add_file(events: Events, how: str, size: str, modified: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        events.damaged += 1
        return
    path = _source_of(os.path.normpath(path))
    known = events.files.get(path)
    if known is None:
        numbers = (int(size), int(modified)) if _is_number(size) and _is_number(modified) else (None, None)
        events.files[path] = Opened(how, *numbers)
    elif how != "w" and not known.is_read:
        events.read_later.add(path)


def _source_of(path: str) -> str:
    """Return the module of a compiled file, which Python opens instead if it is current."""
    folder, _, name = path.rpartition("/")
    if not name.endswith(".pyc") or not folder.endswith("/__pycache__"):
        return path
    return f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py"


def addresses(events: Events) -> Iterator[str]:
    """Yield ``HOST:PORT`` of the other machines that a command connected to, by name where names were looked up."""
    far = {host: port for host, port in events.connections.items() if not _is_local(host)}
    named = {host: port for host, port in events.hosts.items() if not _is_local(host) and not _is_address(host)}
    if far:
        every = ((f"[{host}]" if ":" in host else host, port) for host, port in (named or far).items())
        yield from sorted(f"{host}:{port}" if port else host for host, port in every)


def _is_address(host: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Return whether a host is this machine."""
    from ipaddress import ip_address

    if host in ("", "localhost", "0.0.0.0", "::"):  # noqa: S104  nothing listens here
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def programs_without_hook(events: Events) -> Mapping[str, int]:
    """Return the names of the programs that a Python started and that did not load the hook, with their numbers."""
    found: Counter[str] = Counter()
    pythons: Counter[int] = Counter()
    unable: Counter[int] = Counter()
    for (process, name, is_unable), count in events.programs.items():
        if name.lower().startswith(("python", "pypy")):
            pythons[process] += count
            unable[process] += count * is_unable
        else:
            found[name] += count
    # `multiprocessing` starts Pythons without an event, so that fewer seem to lack the hook than do.
    without = (max(unable[process], count - events.starts[process]) for process, count in pythons.items())
    return found + Counter({"python": sum(without)})
