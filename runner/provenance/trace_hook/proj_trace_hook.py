"""Notes which files, databases, hosts and programs the Python of a run's command uses, through its audit events.

Python 3.8 or newer imports this when it starts. It imports nothing of proj and nothing that is not built into Python,
because each millisecond here is added to every Python of every run. It does nothing unless ``PROJ_TRACE`` names a file,
to which it appends lines. Their fields are separated by tabs: a letter, the process, and what
`runner/provenance/events.py` reads.
"""

from __future__ import annotations

import atexit
import os
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VARIABLE = "PROJ_TRACE"
MOST_NOTED = 100_000
"""Lines that one process writes."""
SYSTEM = ("/usr/", "/lib", "/bin/", "/sbin/", "/proc/", "/sys/", "/dev/", "/etc/")
"""Files of the system, which are no inputs."""
NATIVE = frozenset(
    "av catboost cv2 decord duckdb fiona h5py lightgbm lmdb netCDF4 osgeo polars pyarrow pyogrio pyreadr pyreadstat "
    "rasterio soundfile tables tensorflow xgboost".split()
)
"""Modules that open files in compiled code, which causes no events."""
NEW_RANDOM, NEW_NUMPY = 624, 623
"""The positions in the state of the generators of random numbers before their first use."""
WRITES = posix.O_WRONLY | posix.O_RDWR
_MASK, _REGULAR = 0o170000, 0o100000


class Notes:
    """Writes the lines of this process. Functions are bound early, since programs replace those of ``os``."""

    def __init__(self, out: str) -> None:
        self.out = out
        prefixes = {os.path.realpath(one) for one in (sys.prefix, sys.base_prefix)} | {sys.prefix, sys.base_prefix}
        own = os.path.dirname(os.path.abspath(__file__)) + "/"
        self.skipped = (*SYSTEM, own, *(f"{one}/" for one in prefixes if one not in ("", "/")))
        self.seen: set[tuple[object, ...]] = set()
        self.written = 0

    def write(self, kind: str, *fields: str) -> None:
        """Append a line. No descriptor stays open, because programs close those that they do not know."""
        self.written += 1
        if self.written > MOST_NOTED:
            return
        if self.written == MOST_NOTED:
            kind, fields = "L", ()
        escaped = [one.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for one in fields]
        line = "\t".join((kind, str(posix.getpid()), *escaped)) + "\n"
        descriptor = posix.open(self.out, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        try:
            posix.write(descriptor, os.fsencode(line))
        finally:
            posix.close(descriptor)

    def once(self, kind: str, *fields: str) -> None:
        """Append a line that this process did not write before."""
        if (kind, *fields) not in self.seen:
            self.seen.add((kind, *fields))
            self.write(kind, *fields)

    def opened(self, path: Any, mode: str | None, flags: int) -> None:
        """Note an opened file: read, written, or both; the event comes before the file is opened."""
        if path is self.out or isinstance(path, int):
            return
        path = os.fsdecode(path)
        if path.startswith(self.skipped):
            return
        absolute = path if path[:1] == "/" else f"{posix.getcwd()}/{path}"
        writes = flags & WRITES
        if (absolute, writes) in self.seen:
            return
        try:
            found = posix.stat(absolute)
        except OSError:
            if flags & (WRITES | posix.O_CREAT):
                self.seen.add((absolute, writes))
                self.write("w", "", "", absolute)
            elif mode is None and absolute is not path:
                self.once("u")  # relative to a folder's descriptor, which the event does not name
            return
        self.seen.add((absolute, writes))
        if found.st_mode & _MASK == _REGULAR:
            # A file that is opened for writing and not emptied can be read, or is extended.
            kind = "r" if not writes else "w" if flags & posix.O_TRUNC else "b"
            self.write(kind, str(found.st_size), str(found.st_mtime_ns), absolute)

    def database(self, name: Any) -> None:
        """Note a database of SQLite: a path, or a URI with one."""
        text = os.fsdecode(name)
        if text.startswith("file:"):
            text = text[5:].partition("?")[0]
            text = text[2:] if text.startswith("///") else text
        if text in ("", ":memory:") or text.startswith(self.skipped):
            return
        absolute = text if text[:1] == "/" else f"{posix.getcwd()}/{text}"
        try:
            found = posix.stat(absolute)
        except OSError:
            self.once("w", "", "", absolute)
        else:
            self.once("d", str(found.st_size), str(found.st_mtime_ns), absolute)

    def started(self, program: Any, arguments: Any = None, *others: Any) -> None:
        """Note a program that is started."""
        first = program
        if not first:
            first = arguments if isinstance(arguments, (str, bytes)) else next(iter(arguments or ()), "")
        variables = others[-1] if others else None
        keeps = variables is None or any(os.fsdecode(one) == VARIABLE for one in variables)
        why = "no site" if skips_site(arguments) else "" if keeps else "other variables"
        self.write("p", os.path.basename(os.fsdecode(first)), why)

    def connected(self, _socket: object, address: Any) -> None:
        """Note the address of a connection."""
        if isinstance(address, tuple):
            self.once("c", str(address[0]), str(address[1]))

    def looked_up(self, host: Any, port: Any, *_others: object) -> None:
        """Note a host whose addresses are looked up."""
        if host is not None:
            self.once("g", os.fsdecode(host), "" if port is None else str(port))

    def imported(self, module: str, *_others: object) -> None:
        """Note a module that opens files in compiled code."""
        if module in NATIVE:
            self.once("n", module)

    def loaded(self, name: Any) -> None:
        """Note a library that is loaded with ctypes."""
        if isinstance(name, str) and not name.startswith(self.skipped):
            self.once("n", f"{os.path.basename(name)} by ctypes")

    def ended(self) -> None:
        """Note generators of random numbers that were used without a seed."""
        random = sys.modules.get("random")
        if random is not None and random._inst.getstate()[1][-1] != NEW_RANDOM:
            self.once("x", "random")
        numpy = sys.modules.get("numpy.random.mtrand")
        generator: Any = getattr(numpy, "_rand", None)
        # numpy.random.seed removes the sequence that was made from the system's random numbers.
        is_unseeded = generator is not None and getattr(generator._bit_generator, "_seed_seq", None) is not None
        if is_unseeded and generator.get_state(legacy=False)["state"]["pos"] != NEW_NUMPY:
            self.once("x", "numpy")


def skips_site(arguments: Any) -> bool:
    """Return whether a Python with these arguments loads no hook: the option -S."""
    if not isinstance(arguments, (list, tuple)):
        return False
    for word in map(os.fsdecode, arguments[1:]):
        if word[:1] != "-" or word in ("-", "-c", "-m"):
            return False
        if word[1:2] not in ("-", "W", "X") and "S" in word:
            return True
    return False


def quietly(work: Callable[..., None]) -> Callable[..., None]:
    """Return a function that raises no error: an error in a hook would make the program's own call fail."""

    def call(*arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception:  # noqa: BLE001  whatever it is, it is no concern of the program
            return

    return call


def start(out: str) -> None:
    """Note this process and what it does from now on."""
    notes = Notes(out)
    handlers = {
        "open": quietly(notes.opened),
        "sqlite3.connect": quietly(notes.database),
        "subprocess.Popen": quietly(notes.started),
        "os.exec": quietly(notes.started),
        "os.posix_spawn": quietly(notes.started),
        "os.system": quietly(lambda _command: notes.started("sh")),
        "socket.connect": quietly(notes.connected),
        "socket.getaddrinfo": quietly(notes.looked_up),
        "import": quietly(notes.imported),
        "ctypes.dlopen": quietly(notes.loaded),
    }
    find = handlers.get

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        handler = find(event)
        if handler is not None:
            handler(*arguments)

    quietly(notes.write)("s", str(posix.getppid()), sys.prefix, sys.base_prefix)
    atexit.register(quietly(notes.ended))
    sys.addaudithook(hook)


def leave_no_trace() -> None:
    """Take this folder off the import path, so that the program finds the path that it expects."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != folder]


leave_no_trace()
if os.environ.get(VARIABLE):
    start(os.environ[VARIABLE])
