"""Starts the supervisor, the parent process of a command, and exchanges messages with it."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.base.streams import fill_standard_descriptors
from runner.errors import ExecutionError
from runner.process.own_terminal import open_terminal
from runner.process.programs import find_program
from runner.process.request import ProcessRequest

_PROGRAM = Path(__file__).with_name("supervisor.py")
HAS_WAITID = hasattr(os, "waitid")
"""Whether the system can report that a child was stopped without reaping it (waitid(2))."""
# Imported, not run by its path, so that Python uses the compiled file. The folder goes last so that it shadows nothing.
_START = f"import sys; sys.path.append({str(_PROGRAM.parent)!r}); import supervisor; supervisor.main()"


class SupervisorHandle:
    """A supervisor that waits for its command. It is ready after 10 ms, so it is started ahead of the command."""

    def __init__(self, *, terminal: bool = False) -> None:
        fill_standard_descriptors()
        self.control, theirs = socket.socketpair()
        self.output, their_output, self.has_terminal = _open_output(terminal=terminal)
        self.errors, their_errors = os.pipe()
        # In a process group of its own a Ctrl-C does not end it. Before Python 3.11 the supervisor makes the group.
        options: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {}
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable or "python3", "-I", "-S", "-E", "-c", _START, str(theirs.fileno())],
                stdout=their_output,
                stderr=their_errors,
                pass_fds=(theirs.fileno(),),
                **options,
            )
        except OSError as error:
            self._close_ends()
            raise ExecutionError(
                "the system can't start a process", context=f"{sys.executable}: {error.strerror}"
            ) from error
        finally:
            theirs.close()
            os.close(their_output)
            os.close(their_errors)
        self._unread = b""
        self._is_abandoned = False

    def close(self) -> None:
        """End the supervisor and all remaining processes of its command; do nothing if it was closed before."""
        if self.control.fileno() < 0:
            return
        self._close_ends()
        if self._is_abandoned:
            self.process.returncode = 0  # keeps subprocess from warning about a child that is still running
            return
        while HAS_WAITID and self.process.returncode is None:
            # A stopped supervisor never ends. This call returns when it was stopped as well as when it ended.
            found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if found is None or found.si_code != os.CLD_STOPPED:
                break
            self.wake()
        self.process.wait()

    def wake(self) -> None:
        """Continue the supervisor if it was stopped.

        A stopped supervisor can't report the end of the command. Stopping it does not stop the command, so nothing is
        lost by continuing it.
        """
        if HAS_WAITID and self.process.returncode is None:
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is not None:
                    os.kill(self.process.pid, signal.SIGCONT)

    def abandon(self) -> None:
        """Stop waiting for the supervisor, which goes on killing the remaining processes of its command."""
        self._is_abandoned = True
        self.control.shutdown(socket.SHUT_RDWR)

    def end_group(self) -> None:
        """Kill the process group of the command, for when the supervisor is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def submit(self, request: ProcessRequest, *, merge: bool) -> None:
        """Start the command.

        Raises:
            ExecutionError: the program or the folder does not exist.
        """
        fields = [
            os.fsencode(request.cwd.absolute()),
            request.stdin.value.encode(),
            b"1" if merge else b"0",
            _resolve_program(request),
            os.fsencode(request.trace or ""),
            str(len(request.argv)).encode(),
            *(os.fsencode(field) for field in request.argv),
            *(os.fsencode(f"{name}={value}") for name, value in request.env.items()),
        ]
        _reject_nul(fields)
        body = b"".join(field + b"\0" for field in fields)
        try:
            self.control.sendall(len(body).to_bytes(8, "big") + body)
        except OSError as error:
            raise ExecutionError(
                "the supervisor process ended before the command started", context=str(error)
            ) from error

    def send(self, command: str) -> None:
        """Send a command to the supervisor; ignore that it is gone."""
        try:
            self.control.sendall(f"{command}\n".encode())
        except OSError:
            return  # read() returns None then

    def read(self) -> list[list[str]] | None:
        """Return the messages that have arrived, each split into fields; None when the supervisor is gone."""
        try:
            data = self.control.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [line.decode("utf-8", "replace").split("\t") for line in lines]

    def _close_ends(self) -> None:
        self.control.close()
        os.close(self.output)
        os.close(self.errors)


def prepare(*, terminal: bool = False) -> SupervisorHandle:
    """Start a supervisor ahead of its command. Pass it to `run`, or close it.

    With ``terminal`` the command's output is a terminal, if the system has a free one.
    """
    return SupervisorHandle(terminal=terminal)


def _open_output(*, terminal: bool) -> tuple[int, int, bool]:
    """Return our end and the command's end of its output, and whether it is a terminal."""
    if terminal:
        with contextlib.suppress(OSError):
            return (*open_terminal(), True)
    return (*os.pipe(), False)


def _resolve_program(request: ProcessRequest) -> bytes:
    """Return the path of the program, searched for as a shell does.

    Raises:
        ExecutionError: the program or the folder does not exist.
    """
    name = request.argv[0]
    if not request.cwd.is_dir():
        raise ExecutionError(f"'{name}' can't be started: its working directory is missing", context=str(request.cwd))
    found = name if "/" in name else find_program(name, request.env.get("PATH", os.defpath))
    if found is None:
        raise ExecutionError(
            f"'{name}' can't be started: there is no such program",
            context=f"PATH is {request.env.get('PATH', os.defpath)}",
            hint="Install it, or declare the package that provides it in the environment of the project.",
        )
    return os.fsencode(found)


def _reject_nul(fields: Sequence[bytes]) -> None:
    for field in fields:
        if b"\0" in field:
            raise ExecutionError("an argument or an environment variable contains a NUL byte, which no command accepts")


def trace_error(request: ProcessRequest, number: int) -> ExecutionError:
    """Return the error for a command that the kernel does not let proj trace; ``number`` is the errno."""
    hint = "Run it without --trace."
    if number == errno.EBUSY:
        hint = "Another program traces proj itself in this way, such as another traced run. Run it without --trace."
    return ExecutionError(
        f"'{request.argv[0]}' can't be traced: the kernel refuses the filter: {os.strerror(number)}", hint=hint
    )


def start_error(request: ProcessRequest, number: int) -> ExecutionError:
    """Return the error for a command that the system did not start; ``number`` is the errno."""
    hint = None
    if number == errno.E2BIG:
        hint = "The arguments are too long for this system: write long values to a file and pass its path."
    return ExecutionError(
        f"'{request.argv[0]}' can't be started: {os.strerror(number)}", context=str(request.cwd), hint=hint
    )
