"""Reports every file that the processes of a command open, through seccomp's notifications to user space (Linux).

The supervisor imports this when a command is traced; like it, this imports nothing of proj. The command installs a
filter before it starts, and the kernel then asks the supervisor about each call of the filter (seccomp_unotify(2)). The
answer is always that the call goes on. The lines that are written are those of the trace hook, see
`runner/provenance/events.py`.
"""

import array  # noqa: F401  socket imports it when descriptors are sent, which opens a file
import ctypes
import fcntl
import os
import select
import socket
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
MOST_NOTED = 200_000
"""Files that are noted."""
PAGE = 4096
AT_FDCWD = -100

# seccomp(2), prctl(2) and their headers
_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER, _SPEC_ALLOW, _WAIT_KILLABLE = 8, 4, 32
_RECEIVE, _SEND, _ID_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_CONTINUE = 1
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32 = 0x40000000
"""The bit of numbers in the x32 interface of x86_64."""

OPENS = {"x86_64": {"open": 2, "creat": 85, "openat": 257, "openat2": 437}, "aarch64": {"openat": 56, "openat2": 437}}
STARTS = {"x86_64": {"execve": 59, "execveat": 322}, "aarch64": {"execve": 221, "execveat": 281}}
OTHERS = {
    "x86_64": {"connect": 42, "io_uring_setup": 425, "open_by_handle_at": 304, "mount": 165, "setns": 308},
    "aarch64": {"connect": 203, "io_uring_setup": 425, "open_by_handle_at": 265, "mount": 40, "setns": 268},
}
MOVE_MOUNT = 429
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FOREIGN = (5, 295, 322, 437)
"""Calls that open files in the 32-bit interfaces: open, openat of i386 and of arm, openat2."""
MOUNTED = "a program had other file systems mounted"
FAULTS = {
    "io_uring_setup": "io_uring was used",
    "open_by_handle_at": "a file was opened by its handle",
    **dict.fromkeys(("mount", "setns", "move_mount"), MOUNTED),
}
_INET, _INET6, _SHORTEST = 2, 10, 8
_KIND, _REGULAR = 0o170000, 0o100000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def calls(machine: str) -> "dict[int, str]":
    """Return the names of the calls that are reported, by number."""
    every = {**OPENS[machine], **STARTS[machine], **OTHERS[machine], "move_mount": MOVE_MOUNT}
    return {number: name for name, number in every.items()}


def make_filter(machine: str) -> bytes:
    """Return the filter: a program of struct sock_filter, see bpf(4)."""

    def block(numbers: "list[int]", first: "list[tuple[int, int, int, int]]") -> "list[tuple[int, int, int, int]]":
        tests = [*first, *((_EQUAL, 0, 0, number) for number in numbers)]
        # Each test that is true jumps to the last instruction.
        jumps = [(code, len(tests) - place, 0, value) for place, (code, _, _, value) in enumerate(tests)]
        return [(_LOAD, 0, 0, _NUMBER_AT), *jumps, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]

    native = block(sorted(calls(machine)), [(_AT_LEAST, 0, 0, _X32)] if machine == "x86_64" else [])
    start = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 0, len(native), ARCHITECTURES[machine])]
    return b"".join(struct.pack("HBBI", *one) for one in (*start, *native, *block(list(FOREIGN), [])))


def install(channel: socket.socket) -> None:
    """Install the filter in this process and send its listener over a channel; call this in the command's fork.

    Raises:
        OSError: the kernel does not allow it.
    """
    machine = os.uname().machine
    code = make_filter(machine)
    program = _Program(len(code) // 8, code)
    if LIBC.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    number = 317 if machine == "x86_64" else 277
    listener = -1
    for flags in (_NEW_LISTENER | _SPEC_ALLOW | _WAIT_KILLABLE, _NEW_LISTENER | _SPEC_ALLOW):
        listener = LIBC.syscall(
            *(ctypes.c_long(one) for one in (number, _SET_MODE_FILTER, flags)), ctypes.byref(program)
        )
        if listener >= 0:
            break
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    socket.send_fds(channel, [b"1"], [listener])


def receive(channel: socket.socket) -> "int | None":
    """Return the listener that a fork sends, None if it ended before."""
    data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return descriptors[0] if data and descriptors else None


class Tracer:
    """Answers the notifications of one listener and writes what the calls open to a file."""

    def __init__(self, listener: int, out: bytes, *, has_input: bool) -> None:
        self.listener = listener
        self.out = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        machine = os.uname().machine
        self.architecture = ARCHITECTURES[machine]
        self.names = calls(machine)
        self.seen: "set[tuple[str, str]]" = set()
        self.faults: "dict[str, int]" = {}
        self.spaces: "dict[int, bool]" = {}
        self.own_space = os.readlink("/proc/self/ns/mnt")
        self.buffer = ctypes.create_string_buffer(PAGE)
        self.own, self.other = _Vector(ctypes.addressof(self.buffer), 0), _Vector(None, 0)
        self.ready = select.poll()
        self.ready.register(listener, select.POLLIN)
        if has_input and os.fstat(0).st_mode & _KIND == _REGULAR:
            self.fault("the standard input was a file")
        try:
            fcntl.ioctl(listener, _SET_FLAGS, 1)  # wakes the command on this processor; Linux 6.6
        except OSError:
            return

    def handle(self) -> bool:
        """Answer the notifications that wait; return False when no process is left that could cause one."""
        for _ in range(100):  # others wait for the supervisor, too
            found = self.ready.poll(0)
            if not found:
                return True
            if not found[0][1] & select.POLLIN:
                return False
            self.answer()
        return True

    def answer(self) -> None:
        """Receive one notification, note it, and let the call go on."""
        data = bytearray(80)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, data)
        except OSError:
            return  # the process was ended meanwhile
        identity, thread, _, number, architecture, _, *arguments = struct.unpack("QIIiIQ6Q", data)
        try:
            self.note(identity, thread, (number, architecture), arguments)
        except (OSError, ValueError):
            self.fault("a call could not be followed")
        try:
            fcntl.ioctl(self.listener, _SEND, bytearray(struct.pack("QqiI", identity, 0, 0, _CONTINUE)))
        except OSError:
            return  # it was ended, or a signal interrupted the call, which then comes again

    def note(self, identity: int, thread: int, call: "tuple[int, int]", arguments: "list[int]") -> None:
        """Note what a call opens."""
        name = self.names.get(call[0]) if call[1] == self.architecture else None
        if name is None:
            self.fault("a program used calls of another architecture")
        elif name in FAULTS:
            self.fault(FAULTS[name])
        elif name == "connect":
            self.connected(thread, arguments)
        else:
            self.opened(identity, thread, name, arguments)

    def opened(self, identity: int, thread: int, name: str, arguments: "list[int]") -> None:
        """Note a file that is opened or executed."""
        has_folder = name in ("openat", "openat2", "execveat")
        folder = arguments[0] if has_folder else None
        address, rest = arguments[1:3] if has_folder else arguments[:2]
        path = self.text(thread, address)
        if path is None:
            self.fault("a path could not be read")
            return
        flags = 0
        if name == "creat":
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        elif name == "openat2":
            flags = int.from_bytes(self.memory(thread, rest, 8) or b"", "little")
        elif name in ("open", "openat"):
            flags = rest
        absolute = self.absolute(thread, path, folder)
        fcntl.ioctl(self.listener, _ID_VALID, struct.pack("Q", identity))  # else the process may be another one
        if absolute is not None and not flags & (os.O_DIRECTORY | os.O_PATH):
            self.file(thread, absolute, flags)

    def absolute(self, thread: int, path: bytes, folder: "int | None") -> "bytes | None":
        """Return a path from the root of this machine; None for an empty one, which names a descriptor."""
        if not path:
            return None
        if not self.shares_space(thread):
            self.fault(MOUNTED)
        proc = b"/proc/%d/" % thread
        if path[:1] != b"/":
            number = None if folder is None else struct.unpack("i", struct.pack("I", folder & 0xFFFFFFFF))[0]
            at = b"cwd" if number is None or number == AT_FDCWD else b"fd/%d" % number
            return os.readlink(proc + at) + b"/" + path
        root = os.readlink(proc + b"root")
        return path if root == b"/" else root + path

    def shares_space(self, thread: int) -> bool:
        """Return whether a thread has the mounts of the supervisor."""
        known = self.spaces.get(thread)
        if known is None:
            if len(self.spaces) > MOST_NOTED:
                self.spaces.clear()
            known = self.spaces[thread] = os.readlink(f"/proc/{thread}/ns/mnt") == self.own_space
        return known

    def file(self, thread: int, path: bytes, flags: int) -> None:
        """Note a regular file, once for reading and once for writing."""
        text = os.fsdecode(path)
        kind = "r" if not flags & (os.O_WRONLY | os.O_RDWR) else "w" if flags & os.O_TRUNC else "b"
        if (text, kind) in self.seen or text.startswith(("/proc/", "/sys/", "/dev/")):
            return
        try:
            found = os.stat(path)
        except OSError:
            if kind != "r" or flags & os.O_CREAT:
                self.line("w", thread, "", "", text)
            return
        self.seen.add((text, kind))
        if found.st_mode & _KIND == _REGULAR:
            self.line(kind, thread, str(found.st_size), str(found.st_mtime_ns), text)

    def connected(self, thread: int, arguments: "list[int]") -> None:
        """Note the address of a connection: struct sockaddr_in or sockaddr_in6."""
        data = self.memory(thread, arguments[1], min(28, arguments[2])) or b""
        family = int.from_bytes(data[:2], "little")
        port = int.from_bytes(data[2:4], "big")
        if family in (_INET, _INET6) and len(data) >= _SHORTEST:
            start, size = (4, 4) if family == _INET else (8, 16)
            host = socket.inet_ntop(family, data[start : start + size])
            if (host, "c") not in self.seen:
                self.seen.add((host, "c"))
                self.line("c", thread, host.removeprefix("::ffff:"), str(port))

    def text(self, thread: int, address: int) -> "bytes | None":
        """Return a text of another process up to its NUL, None if it can't be read."""
        found = b""
        while len(found) < PAGE + 1:
            # A text may end before a page that can't be read.
            piece = self.memory(thread, address + len(found), PAGE - (address + len(found)) % PAGE)
            if not piece:
                return None
            text, nul, _ = piece.partition(b"\0")
            found += text
            if nul:
                return found
        return None

    def memory(self, thread: int, address: int, length: int) -> "bytes | None":
        """Return memory of another process, None if it can't be read; see process_vm_readv(2)."""
        self.own.length = self.other.length = length
        self.other.base = address
        count = LIBC.process_vm_readv(
            thread,
            ctypes.byref(self.own),
            ctypes.c_ulong(1),
            ctypes.byref(self.other),
            ctypes.c_ulong(1),
            ctypes.c_ulong(0),
        )
        return ctypes.string_at(self.buffer, count) if count > 0 else None

    def fault(self, what: str) -> None:
        """Count something that could not be followed."""
        self.faults[what] = self.faults.get(what, 0) + 1

    def line(self, kind: str, thread: int, *fields: str) -> None:
        """Write a line, as the trace hook does."""
        if len(self.seen) > MOST_NOTED:
            self.fault("more files were opened than are noted")
            return
        escaped = [one.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for one in fields]
        os.write(self.out, os.fsencode("\t".join((kind, str(thread), *escaped)) + "\n"))

    def close(self) -> None:
        """Write what could not be followed, and that the tracer saw the end."""
        os.close(self.listener)
        for what, count in self.faults.items():
            self.line("k", 0, what, str(count))
        self.line("z", 0)
        os.close(self.out)
