"""Starts one command as its parent process and ends every process that the command leaves behind.

This program runs as ``python -ISE`` and imports nothing of proj and little of the standard library, because each
millisecond here is added to every run. It is not a fork of proj, because proj has threads and because on Linux the
peak memory of a child starts at that of the process it was forked from. It adopts the command's orphans (prctl(2),
PR_SET_CHILD_SUBREAPER) and ends them all when proj's end of the control socket closes, as it does when proj is killed.

The request is 8 bytes of length, then fields that end in NUL: directory, stdin, merge, program, file of the tracer or
nothing, number of arguments, arguments, environment. Commands after it are lines: ``signal N`` to every process of the
command, ``relay N`` to the command itself alone, ``continue``. Replies are lines of fields separated by tabs:
``started TIME``, ``failed ERRNO``, ``untraced ERRNO``, ``stopped SIGNAL``, ``interrupted SIGNAL``,
``ended STATUS SECONDS``, ``left NAME…``, ``over USER SYSTEM MEMORY``.
"""

# `signal` imports `enum`, which takes 5 ms; `_signal` is the part of it that is written in C.
import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import ctypes
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_INTERVAL = 0.02
"""Seconds between two rounds of SIGKILL."""
REPORTED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
"""Signals that are reported when a terminal or the command sends them to the group of supervisor and command."""
CAUGHT = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGUSR1, _signal.SIGUSR2)
HEADER = 8
"""Bytes of the length at the start of a request."""
TRACE, ARGUMENTS = 4, 6
"""Places in a request: the file of the tracer, and the first argument."""
IS_LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)


def main() -> None:
    """Handle one request on the control socket, whose descriptor is the first argument."""
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    wake = catch_signals()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    request = read_request(control)
    if request is not None:
        Supervisor(control, wake).run(request)
    os._exit(0)


def prctl(option: int, value: int) -> None:
    """Set a process property on Linux; do nothing elsewhere."""
    if IS_LINUX:
        LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def catch_signals() -> int:
    """Catch signals to the group, lead a process group, and return a descriptor from which signals can be read.

    A signal with a handler is reset in the command, an ignored one stays ignored, so nohup(1) keeps working.
    """
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for number in (*REPORTED, *CAUGHT, _signal.SIGCHLD):
        if _signal.getsignal(number) != _signal.SIG_IGN or number == _signal.SIGCHLD:
            _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return readable


def read_request(control: int) -> "list[bytes] | None":
    """Wait for the request; return None if the socket closes before."""
    data = b""
    while len(data) < HEADER or len(data) < HEADER + int.from_bytes(data[:HEADER], "big"):
        piece = os.read(control, 1 << 20)
        if not piece:
            return None
        data += piece
    return data[HEADER:].split(b"\0")[:-1]


class Supervisor:
    """The parent process of one command."""

    def __init__(self, control: int, wake: int) -> None:
        self.control = control
        self.wake = wake
        self.leader = 0
        self.is_ended = False
        self.started_at = 0.0
        self.user = self.system = 0.0
        self.memory = 0
        self.tracer: Any = None

    def run(self, request: "list[bytes]") -> None:
        """Start the command and handle signals and commands until none of its processes is left."""
        self.started_at = time.monotonic()
        self.send("started", repr(time.time()))
        self.start(request)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        if self.tracer:
            poll.register(self.tracer.listener, select.POLLIN)
        while not self.reap():
            # Where orphans are not adopted, no signal reports the end of the last one.
            for descriptor, _ in poll.poll(None if IS_LINUX or not self.is_ended else 50):
                if descriptor == self.wake:
                    self.report_signals()
                elif self.tracer and descriptor == self.tracer.listener:
                    if not self.tracer.handle():
                        poll.unregister(descriptor)
                        self.end_trace()
                elif not self.handle_commands():
                    self.end_all()
                    return
        self.end_trace()
        self.send("over", repr(self.user), repr(self.system), str(self.memory))

    def start(self, request: "list[bytes]") -> None:
        """Start the command; if it is traced, start the tracer."""
        out = request[TRACE]
        if not out:
            self.leader = os.fork()
            if self.leader == 0:
                self.exec_command(request)
            return
        # It takes milliseconds to load, which only traced commands pay. The folder of this file is on the import path.
        import tracer  # type: ignore[import-not-found]

        ours, theirs = tracer.socket.socketpair()
        self.leader = os.fork()
        if self.leader == 0:
            self.exec_command(request, lambda: tracer.install(theirs))
        theirs.close()
        listener = tracer.receive(ours)
        ours.close()
        if listener is not None:
            self.tracer = tracer.Tracer(listener, out, has_input=request[1] != b"nothing")

    def end_trace(self) -> None:
        """End the tracer when no process of the command is left."""
        if self.tracer:
            self.tracer.close()
            self.tracer = None

    def exec_command(self, request: "list[bytes]", install: "Callable[[], None] | None" = None) -> None:
        """Replace this fork by the command, after the filter of the tracer is installed."""
        try:
            _signal.set_wakeup_fd(-1)
            for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
                _signal.signal(number, _signal.SIG_DFL)
            # If the supervisor is killed, at least its direct child is killed too.
            prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
            directory, stdin, merge, program, _, count = request[:ARGUMENTS]
            if stdin == b"nothing":
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if merge == b"1":
                os.dup2(1, 2)
            arguments = request[ARGUMENTS : ARGUMENTS + int(count)]
            variables = dict(item.split(b"=", 1) for item in request[ARGUMENTS + int(count) :])
            os.chdir(directory)
            if install is not None and not self.is_traced(install):
                return
            os.execve(program, arguments, variables)  # noqa: S606
        except OSError as error:
            self.send("failed", str(error.errno))
        finally:
            os._exit(127)

    def is_traced(self, install: "Callable[[], None]") -> bool:
        """Install the filter of the tracer; report why that is not possible."""
        try:
            install()
        except OSError as error:
            self.send("untraced", str(error.errno))
            return False
        return True

    def send(self, *fields: str) -> None:
        """Send a message to proj; ignore that it is gone."""
        try:
            os.write(self.control, ("\t".join(fields) + "\n").encode("utf-8", "surrogateescape"))
        except OSError:
            return  # the closed socket is noticed where it is read

    def report_signals(self) -> None:
        """Report the signals that were sent to the whole group."""
        for number in os.read(self.wake, 512):
            if number in REPORTED:
                self.send("interrupted", str(number))

    def handle_commands(self) -> bool:
        """Handle the commands of proj; return False when it is gone."""
        data = os.read(self.control, 4096)
        for line in data.splitlines():
            command, _, argument = line.partition(b" ")
            if command == b"signal":
                self.signal_all(int(argument))
            elif command == b"relay" and not self.is_ended:
                os.kill(self.leader, int(argument))
            elif command == b"continue":
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
            self.send("left", *names)
        return names

    def reap(self) -> bool:
        """Reap the processes that have ended; return True when none is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return IS_LINUX or not descendants(os.getpid())
            if pid == 0:
                return False
            if os.WIFSTOPPED(status):
                if pid == self.leader:
                    self.send("stopped", str(os.WSTOPSIG(status)))
                continue
            self.user += usage.ru_utime
            self.system += usage.ru_stime
            # getrusage(2): kilobytes on Linux, bytes on macOS.
            self.memory = max(self.memory, usage.ru_maxrss * (1024 if IS_LINUX else 1))
            if pid == self.leader:
                self.is_ended = True
                self.send("ended", str(status), repr(time.monotonic() - self.started_at))

    def end_all(self) -> None:
        """Kill every process of the command until none is left."""
        while not self.reap():
            self.signal_all(_signal.SIGKILL)
            time.sleep(KILL_INTERVAL)


def descendants(ancestor: int) -> "list[tuple[int, str]]":
    """Return id and name of all descendants of a process; where orphans are not adopted, of its group too."""
    table = list(from_proc() if IS_LINUX else from_ps())
    found = {ancestor}
    if not IS_LINUX:
        found |= {pid for pid, _, group, _ in table if group == ancestor}
    size = 0
    while size != len(found):
        size = len(found)
        found |= {pid for pid, parent, _, _ in table if parent in found}
    return [(pid, name) for pid, _, _, name in table if pid in found and pid != ancestor]


def from_proc() -> "list[tuple[int, int, int, str]]":
    """Return id, parent, group and name of all processes but zombies, from ``/proc/PID/stat`` of proc(5)."""
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
    """Return id, parent, group and name of all processes but zombies, from ps(1)."""
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
