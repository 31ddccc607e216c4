"""The handle of a run that works in the background."""

import threading
from html import escape

import msgspec

from runner import errors
from runner.errors import ExecutionError, ProjError
from runner.interactive.background import Failure, Message
from runner.interactive.reading import log_event, open_reader
from runner.interactive.runs import Run, run_of
from runner.model import RunRequest
from runner.process.background import start_module


class RunHandle:
    """A run in a process of its own; it goes on if the program that started it ends.

    Its output is in its log: ``proj log -f ID``. Messages go to the logger ``proj``.
    """

    def __init__(self, request: RunRequest) -> None:
        self._process = start_module("runner.interactive.background", msgspec.json.encode(request))
        self._run_id: str | None = None
        self._failure: Failure | None = None
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="proj-run", daemon=True)
        self._thread.start()
        try:
            self._opened.wait()
        except BaseException:  # an interruption before the run has an id would leave a run that nobody knows
            self._process.terminate()
            raise
        if self._run_id is None:
            self._ended.wait()
            raise self._error()

    @property
    def run_id(self) -> str:
        """The id of the run; each attempt to repair a failed run has its own, and this is that of the last one."""
        return self._run_id or ""

    def poll(self) -> Run | None:
        """Return the run if it has ended, else None.

        Raises:
            ProjError: as `wait`.
        """
        return self.wait(0) if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run has ended and return it; a command that fails raises nothing.

        Args:
            timeout: the longest time to wait, in seconds.

        Raises:
            TimeoutError: the run has not ended yet; it goes on.
            ProjError: the environment could not be built.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the run {self.run_id[:8]} has not ended after {timeout:g} seconds")
        if self._failure is not None:
            raise self._error()
        with open_reader("") as reader:
            return run_of(reader.record(self.run_id))

    def stop(self) -> None:
        """Stop the command as Ctrl-C does: SIGTERM, and SIGKILL after 5 seconds. The run becomes KILLED."""
        if not self._ended.is_set():
            self._process.terminate()

    def __repr__(self) -> str:
        """Return id and state."""
        return f"<RunHandle {self.run_id[:8]} {'ended' if self._ended.is_set() else 'running'}>"

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks."""
        return f"<code>{escape(repr(self))}</code>"

    def _follow(self) -> None:
        """Read the messages of the process until it ends."""
        try:
            if self._process.stdout is not None:
                with self._process.stdout as pipe:
                    for line in pipe:
                        self._receive(line)
        finally:
            self._process.wait()
            self._ended.set()
            self._opened.set()

    def _receive(self, line: bytes) -> None:
        message = msgspec.json.decode(line, type=Message)
        self._failure = message.failure
        if message.event is not None:
            self._run_id = message.event.run_id or self._run_id
            log_event(message.event)
        self._run_id = message.run_id or self._run_id
        if self._run_id is not None:
            self._opened.set()

    def _error(self) -> ProjError:
        """Return the error that ended the process, as `runner.run` raises it."""
        if self._failure is None:
            return ExecutionError(f"the process of the run ended with exit code {self._process.returncode}")
        kind = getattr(errors, self._failure.kind, ProjError)
        try:
            error = kind(self._failure.message, context=self._failure.context, hint=self._failure.hint)
        except TypeError:  # a class with further arguments
            error = ProjError(self._failure.message, context=self._failure.context, hint=self._failure.hint)
        return error if isinstance(error, ProjError) else ProjError(self._failure.message)
