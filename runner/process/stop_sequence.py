"""Signals to us, and the ladder on which a command is stopped."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType

STOPPING = (Signals.SIGINT, Signals.SIGTERM, Signals.SIGHUP)
"""Signals that mean: stop the command, close the record, and go."""
_KILL_AGAIN = 0.1
"""Seconds between two kills, for what is being born while the rest dies."""
_LINGER = 1.0
"""Seconds for the rest of a pipeline to finish after the command itself has ended, and then for each rung."""

_Handler = Callable[[int, FrameType | None], object]


class Interrupted(KeyboardInterrupt):
    """A signal told us to stop; ``signal`` is which one."""

    def __init__(self, number: int) -> None:
        super().__init__(Signals(number).name)
        self.signal = Signals(number)

    @property
    def exit_code(self) -> int:
        """What a shell would call it: 128 and the number of the signal."""
        return 128 + self.signal


@contextmanager
def raising_signals() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that what is open gets closed.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(STOPPING, interrupt):
        yield


class Inbox:
    """Signals that arrive while a command runs; ``descriptor`` is readable when there are any."""

    def __init__(self) -> None:
        self.descriptor, self._writable = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writable, False)

    @contextmanager
    def listening(self) -> Iterator["Inbox"]:
        """Catch the signals until the end of the block; outside the main thread none is caught."""
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
            return  # hundreds are waiting already


@contextmanager
def _handling(numbers: tuple[Signals, ...], handler: _Handler) -> Iterator[None]:
    """Handle signals for the length of a block. Ignored ones stay ignored: so nohup keeps its meaning."""
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
    """The steps by which a command is stopped: each rung is a signal, and the next one comes after a time of grace.

    It starts with the signal that came, so that a command that saves its state on SIGTERM gets to do that; from an
    interrupt it goes on to SIGTERM, and it ends with SIGKILL, again and again.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._rungs: list[Signals] = []
        self.due_at: float | None = None
        """When the next rung is due on the monotonic clock; None while nobody has asked to stop."""

    @property
    def is_finished(self) -> bool:
        """Say whether the command is being stopped."""
        return self.due_at is not None

    def escalate(self, first: Signals, now: float) -> None:
        """Begin to stop with a signal; when stopping has begun, the next rung is due now."""
        if not self.is_finished:
            self._rungs = [first, *(rung for rung in (Signals.SIGTERM, Signals.SIGKILL) if rung != first)]
        self.due_at = now

    def sweep(self, now: float) -> None:
        """Begin to end what is left when the command itself has ended."""
        if not self.is_finished:
            self._rungs = [Signals.SIGTERM, Signals.SIGKILL]
            self.due_at = now + _LINGER
            self._grace = min(self._grace, _LINGER)

    def step(self, now: float) -> Signals | None:
        """Return the signal that is due, if any."""
        if self.due_at is None or now < self.due_at:
            return None
        if len(self._rungs) > 1:
            self.due_at = now + self._grace
            return self._rungs.pop(0)
        self.due_at = now + _KILL_AGAIN
        return Signals.SIGKILL
