"""The program that starts one command, is its parent, and leaves no process of it behind.

It runs on its own as ``python -ISE``, so it imports nothing of ours and little of the standard library: each
millisecond here is one of every run. It is a process of its own and not a fork of ours, because ours has threads, and
because on Linux a child's peak memory starts at that of the process it was forked from. It adopts the command's
orphans (prctl(2), PR_SET_CHILD_SUBREAPER) and ends them all when our end of the control socket closes, which is what
happens when we are killed.

The request: 8 bytes of length, then words that end in NUL: directory, stdin, merge, program, number of arguments,
arguments, environment. Commands after it are lines: ``signal N`` to every process of the command, ``relay N`` to the
command itself alone, ``continue``. The answers are lines of words that are separated by tabs: ``started TIME``,
``failed ERRNO``, ``stopped SIGNAL``, ``interrupted SIGNAL``, ``ended STATUS SECONDS``, ``left NAME…``,
``over USER SYSTEM MEMORY``.
"""

# `signal` would import `enum`, which takes 5 ms; `_signal` is the part of it that is written in C.
import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import ctypes
import os
import select
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_AGAIN = 0.02
"""Seconds between two sweeps when all must end."""
NOTED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
"""Signals that a terminal, or the command itself, may send to the group that the supervisor shares with the command."""
DEAFENED = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGUSR1, _signal.SIGUSR2)
HEADER = 8
"""Bytes of the length that a request starts with."""
IS_LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)


def main() -> None:
    """Serve one request on the control socket that is given as a descriptor."""
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    wake = deafen()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    request = read_request(control)
    if request is not None:
        Supervisor(control, wake).run(request)
    os._exit(0)


def prctl(option: int, value: int) -> None:
    """Set a property of this process where the system knows such."""
    if IS_LINUX:
        LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def deafen() -> int:
    """Survive what is sent to the group, lead a group of our own, and return where signals can be read.

    A signal with a handler is reset in the command, an ignored one stays ignored: so nohup keeps its meaning.
    """
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for number in (*NOTED, *DEAFENED, _signal.SIGCHLD):
        if _signal.getsignal(number) != _signal.SIG_IGN or number == _signal.SIGCHLD:
            _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return readable


def read_request(control: int) -> "list[bytes] | None":
    """Wait for the request; None when there will be none."""
    data = b""
    while len(data) < HEADER or len(data) < HEADER + int.from_bytes(data[:HEADER], "big"):
        piece = os.read(control, 1 << 20)
        if not piece:
            return None
        data += piece
    return data[HEADER:].split(b"\0")[:-1]


class Supervisor:
    """The life of one command."""

    def __init__(self, control: int, wake: int) -> None:
        self.control = control
        self.wake = wake
        self.leader = 0
        self.is_ended = False
        self.began = 0.0
        self.user = self.system = 0.0
        self.memory = 0

    def run(self, request: "list[bytes]") -> None:
        """Start the command and serve until none of its processes is left."""
        self.began = time.monotonic()
        self.tell("started", repr(time.time()))
        self.leader = os.fork()
        if self.leader == 0:
            self.become(request)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while not self.reap():
            # Where orphans are not adopted, nothing tells when the last one ends.
            for descriptor, _ in poll.poll(None if IS_LINUX or not self.is_ended else 50):
                if descriptor == self.wake:
                    self.hear()
                elif not self.obey():
                    self.end_all()
                    return
        self.tell("over", repr(self.user), repr(self.system), str(self.memory))

    def become(self, request: "list[bytes]") -> None:
        """Turn this fork into the command."""
        try:
            _signal.set_wakeup_fd(-1)
            for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
                _signal.signal(number, _signal.SIG_DFL)
            # Should the supervisor be killed, at least its direct child goes with it.
            prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
            directory, stdin, merge, program, count = request[:5]
            if stdin == b"nothing":
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if merge == b"1":
                os.dup2(1, 2)
            words = request[5 : 5 + int(count)]
            variables = dict(item.split(b"=", 1) for item in request[5 + int(count) :])
            os.chdir(directory)
            os.execve(program, words, variables)  # noqa: S606
        except OSError as error:
            self.tell("failed", str(error.errno))
        finally:
            os._exit(127)

    def tell(self, *words: str) -> None:
        """Say something to our parent, who may be gone."""
        try:
            os.write(self.control, ("\t".join(words) + "\n").encode("utf-8", "surrogateescape"))
        except OSError:
            return  # the closed socket is noticed where it is read

    def hear(self) -> None:
        """Pass on what was sent to the whole group."""
        for number in os.read(self.wake, 512):
            if number in NOTED:
                self.tell("interrupted", str(number))

    def obey(self) -> bool:
        """Do what the parent says; False when it is gone."""
        data = os.read(self.control, 4096)
        for line in data.splitlines():
            word, _, argument = line.partition(b" ")
            if word == b"signal":
                self.signal_all(int(argument))
            elif word == b"relay" and not self.is_ended:
                os.kill(self.leader, int(argument))
            elif word == b"continue":
                self.signal_all(_signal.SIGCONT)
        return bool(data)

    def signal_all(self, number: int) -> "list[str]":
        """Send a signal to every process of the command; return their names."""
        names = []
        for pid, name in descendants(os.getpid()):
            try:
                os.kill(pid, number)
            except OSError:
                continue
            names.append(name)
        if self.is_ended and names:
            self.tell("left", *names)
        return names

    def reap(self) -> bool:
        """Collect processes that have ended; True when none is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return IS_LINUX or not descendants(os.getpid())
            if pid == 0:
                return False
            if os.WIFSTOPPED(status):
                if pid == self.leader:
                    self.tell("stopped", str(os.WSTOPSIG(status)))
                continue
            self.user += usage.ru_utime
            self.system += usage.ru_stime
            # getrusage(2): kilobytes on Linux, bytes on macOS.
            self.memory = max(self.memory, usage.ru_maxrss * (1024 if IS_LINUX else 1))
            if pid == self.leader:
                self.is_ended = True
                self.tell("ended", str(status), repr(time.monotonic() - self.began))

    def end_all(self) -> None:
        """Kill every process of the command until none is left."""
        while not self.reap():
            self.signal_all(_signal.SIGKILL)
            time.sleep(KILL_AGAIN)


def descendants(ancestor: int) -> "list[tuple[int, str]]":
    """Return process id and name of all that descend from a process, or are in its group where none are adopted."""
    table = list(from_proc() if IS_LINUX else from_ps())
    family = {ancestor}
    if not IS_LINUX:
        family |= {pid for pid, _, group, _ in table if group == ancestor}
    size = 0
    while size != len(family):
        size = len(family)
        family |= {pid for pid, parent, _, _ in table if parent in family}
    return [(pid, name) for pid, _, _, name in table if pid in family and pid != ancestor]


def from_proc() -> "list[tuple[int, int, int, str]]":
    """Return id, parent, group and name of all processes but zombies; proc(5), ``/proc/PID/stat``."""
    table = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes longer than all the rest
        if not entry.isdigit():
            continue
        try:
            descriptor = os.open(f"/proc/{entry}/stat", os.O_RDONLY)
        except OSError:
            continue
        try:
            head, _, tail = os.read(descriptor, 4096).decode("utf-8", "replace").rpartition(")")
        except OSError:
            continue
        finally:
            os.close(descriptor)
        state, parent, group = tail.split(maxsplit=3)[:3]
        if state != "Z":
            name = " ".join(head.partition("(")[2].split())
            table.append((int(entry), int(parent), int(group), name))
    return table


def from_ps() -> "list[tuple[int, int, int, str]]":
    """Return id, parent, group and name of all processes but zombies, as ps(1) prints them."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writable, 1)
            os.execvp("ps", ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,comm="])  # noqa: S606, S607
        finally:
            os._exit(127)
    os.close(writable)
    table = []
    with os.fdopen(readable, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            number, parent, group, state, name = line.split(maxsplit=4)
            if not state.startswith("Z") and int(number) != pid:
                table.append((int(number), int(parent), int(group), name.strip().rpartition("/")[2]))
    os.waitpid(pid, 0)
    return table


if __name__ == "__main__":
    main()
