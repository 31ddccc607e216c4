"""Our end of the connection to the supervisor, the parent of a command."""

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
from runner.process.programs import find_program
from runner.process.request import ProcessRequest

_PROGRAM = Path(__file__).with_name("supervisor.py")
HAS_WAITID = hasattr(os, "waitid")
"""Whether the system tells that a child was stopped without taking its end away from whoever waits for it."""
# Imported and not run by its path, so that Python uses the compiled file; the folder goes last and shadows nothing.
_START = f"import sys; sys.path.append({str(_PROGRAM.parent)!r}); import supervisor; supervisor.main()"


class SupervisorHandle:
    """A supervisor that waits for its command: it takes 10 ms to be ready, which may pass while other work is done."""

    def __init__(self) -> None:
        fill_standard_descriptors()
        self.control, theirs = socket.socketpair()
        self.output, their_output = os.pipe()
        self.errors, their_errors = os.pipe()
        # A group of its own from the first moment keeps a Ctrl-C from ending it; it makes one itself before 3.11.
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
            raise ExecutionError("no process can be started", context=f"{sys.executable}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(their_output)
            os.close(their_errors)
        self._unread = b""
        self._is_abandoned = False

    def close(self) -> None:
        """End the supervisor with all that is left of its command; nothing happens where it has ended."""
        if self.control.fileno() < 0:
            return
        self._close_ends()
        if self._is_abandoned:
            self.process.returncode = 0  # says that nobody waits for it
            return
        while HAS_WAITID and self.process.returncode is None:
            # A stopped supervisor would never end; this call returns when it is stopped as well as when it ended.
            found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if found is None or found.si_code != os.CLD_STOPPED:
                break
            self.wake()
        self.process.wait()

    def wake(self) -> None:
        """Let the supervisor go on where somebody stopped it: until then nobody notices the end of the command.

        Stopping it does not stop the command, so there is no reason to leave it like that.
        """
        if HAS_WAITID and self.process.returncode is None:
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is not None:
                    os.kill(self.process.pid, signal.SIGCONT)

    def abandon(self) -> None:
        """Let the supervisor go on alone: it kills what is left of its command for as long as that takes."""
        self._is_abandoned = True
        self.control.shutdown(socket.SHUT_RDWR)

    def end_group(self) -> None:
        """Kill the group of the command where the supervisor can't do that any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def submit(self, request: ProcessRequest, *, merge: bool) -> None:
        """Have the command started.

        Raises:
            ExecutionError: there is no such program or folder.
        """
        words = [
            os.fsencode(request.cwd.absolute()),
            request.stdin.value.encode(),
            b"1" if merge else b"0",
            _program(request),
            str(len(request.argv)).encode(),
            *(os.fsencode(word) for word in request.argv),
            *(os.fsencode(f"{name}={value}") for name, value in request.env.items()),
        ]
        _refuse_nul(words)
        body = b"".join(word + b"\0" for word in words)
        try:
            self.control.sendall(len(body).to_bytes(8, "big") + body)
        except OSError as error:
            raise ExecutionError(
                "the process that watches over the command ended before it", context=str(error)
            ) from error

    def tell(self, command: str) -> None:
        """Send a command to the supervisor, which may be gone."""
        try:
            self.control.sendall(f"{command}\n".encode())
        except OSError:
            return  # read() says that it is gone

    def read(self) -> list[list[str]] | None:
        """Return the messages that have arrived, each as its words; None when the supervisor is gone."""
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


def prepare() -> SupervisorHandle:
    """Start a supervisor ahead of its command; `run` takes it, and what isn't used must be closed."""
    return SupervisorHandle()


def _program(request: ProcessRequest) -> bytes:
    """Return the path of the program, found as a shell finds it."""
    name = request.argv[0]
    if not request.cwd.is_dir():
        raise ExecutionError(f"'{name}' can't be started: there is no folder to run it in", context=str(request.cwd))
    found = name if "/" in name else find_program(name, request.env.get("PATH", os.defpath))
    if found is None:
        raise ExecutionError(
            f"'{name}' can't be started: there is no such program",
            context=f"PATH is {request.env.get('PATH', os.defpath)}",
            hint="Install it, or declare what provides it in the environment of the project.",
        )
    return os.fsencode(found)


def _refuse_nul(words: Sequence[bytes]) -> None:
    for word in words:
        if b"\0" in word:
            raise ExecutionError("an argument or variable holds a NUL byte, which no command can be given")


def refusal(request: ProcessRequest, number: int) -> ExecutionError:
    """Return why the system did not start a command, in words."""
    hint = None
    if number == errno.E2BIG:
        hint = "The arguments are too long for this system: write long values to a file and pass its path."
    return ExecutionError(
        f"'{request.argv[0]}' can't be started: {os.strerror(number)}", context=str(request.cwd), hint=hint
    )
