"""Catches signals to proj and plans the signals that stop a command."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType

STOPPING = (Signals.SIGINT, Signals.SIGTERM, Signals.SIGHUP)
"""Signals that make proj stop the command, close the record and exit."""
_KILL_INTERVAL = 0.1
"""Seconds between two SIGKILLs, as processes may be started while others are being killed."""
_LINGER_SECONDS = 1.0
"""Seconds for the rest of a pipeline to finish after the command itself has ended, and between later signals."""

_Handler = Callable[[int, FrameType | None], object]


class Interrupted(KeyboardInterrupt):
    """A signal asked proj to stop; ``signal`` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(Signals(number).name)
        self.signal = Signals(number)

    @property
    def exit_code(self) -> int:
        """The exit code by the convention of shells: 128 plus the number of the signal."""
        return 128 + self.signal


@contextmanager
def raising_signals() -> Iterator[None]:
    """Raise `Interrupted` on SIGINT, SIGTERM and SIGHUP, so that ``finally`` blocks run.

    Do nothing outside the main thread, where Python delivers no signals.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(STOPPING, interrupt):
        yield


class Inbox:
    """A queue of the signals that arrive while a command runs; ``descriptor`` is readable when it is not empty."""

    def __init__(self) -> None:
        self.descriptor, self._writable = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writable, False)

    @contextmanager
    def listening(self) -> Iterator["Inbox"]:
        """Catch the signals until the end of the block; outside the main thread catch none."""
        try:
            with _handling((*STOPPING, Signals.SIGTSTP), self._note):
                yield self
        finally:
            os.close(self.descriptor)
            os.close(self._writable)

    def take(self) -> list[Signals]:
        """Return the signals that have arrived since the last call."""
        try:
            return [Signals(number) for number in os.read(self.descriptor, 512)]
        except BlockingIOError:
            return []

    def _note(self, number: int, _: FrameType | None) -> None:
        try:
            os.write(self._writable, bytes((number,)))
        except BlockingIOError:
            return  # the pipe is full: thousands of signals are waiting


@contextmanager
def _handling(numbers: tuple[Signals, ...], handler: _Handler) -> Iterator[None]:
    """Handle signals until the end of the block. Ignored signals stay ignored, so nohup(1) keeps working."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class StopSequence:
    """The signals that stop a command, with ``grace`` seconds between them.

    The first is the signal that proj itself received, so that a command that saves its state on SIGTERM can do so.
    SIGTERM follows, then SIGKILL until no process is left.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._signals: list[Signals] = []
        self.due_at: float | None = None
        """When the next signal is due, on the monotonic clock; None until the command is to be stopped."""

    @property
    def is_active(self) -> bool:
        """Whether the command is being stopped."""
        return self.due_at is not None

    def escalate(self, first: Signals, now: float) -> None:
        """Start the sequence with a signal; if it has started, make the next signal due now."""
        if not self.is_active:
            self._signals = [first, *(number for number in (Signals.SIGTERM, Signals.SIGKILL) if number != first)]
        self.due_at = now

    def end_leftovers(self, now: float) -> None:
        """Start to end the remaining processes after the command itself has ended."""
        if not self.is_active:
            self._signals = [Signals.SIGTERM, Signals.SIGKILL]
            self.due_at = now + _LINGER_SECONDS
            self._grace = min(self._grace, _LINGER_SECONDS)

    def step(self, now: float) -> Signals | None:
        """Return the signal that is due, None if none is."""
        if self.due_at is None or now < self.due_at:
            return None
        if len(self._signals) > 1:
            self.due_at = now + self._grace
            return self._signals.pop(0)
        self.due_at = now + _KILL_INTERVAL
        return Signals.SIGKILL
