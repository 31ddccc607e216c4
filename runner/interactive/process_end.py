"""Ends the open runs of this process when it ends, and notices why it ends."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType, TracebackType
from typing import NoReturn, Protocol

from runner.interactive.notebook_code import shell
from runner.process import Interrupted


class Endable(Protocol):
    """A run that this process has open."""

    def end_with_process(self, error: BaseException | None) -> None:
        """End the run; ``error`` ended the program, None if none is known."""
        ...


class OpenRuns:
    """The open runs of this process, the innermost last.

    While there is one, an uncaught exception and the argument of ``sys.exit`` are noticed, because nothing else tells
    them when the process ends, and SIGTERM raises `Interrupted`. A fork does not own the runs of its parent.
    """

    def __init__(self) -> None:
        self._runs: list[Endable] = []
        self._pid = os.getpid()
        self._error: BaseException | None = None
        self._restore: list[Callable[[], None]] = []
        self._is_registered = False

    def add(self, run: Endable) -> None:
        """Add a run that was opened."""
        if self._pid != os.getpid():  # a fork begins with none
            self._runs, self._restore, self._pid, self._error = [], [], os.getpid(), None
        if not self._is_registered:
            atexit.register(self._end_all)
            self._is_registered = True
        if not self._runs:
            self._observe()
        self._runs.append(run)

    def remove(self, run: Endable) -> None:
        """Remove a run that has ended."""
        if run in self._runs:
            self._runs.remove(run)
        if not self._runs:
            while self._restore:
                self._restore.pop()()

    def inside(self, run: Endable) -> list[Endable]:
        """Return the runs that were opened after a run and are still open, the innermost first."""
        return self._runs[self._runs.index(run) + 1 :][::-1] if run in self._runs else []

    def note_activity(self) -> None:
        """Forget a call of ``sys.exit`` after which the program went on."""
        self._error = None

    def _end_all(self) -> None:
        if self._pid != os.getpid():
            return
        for run in self._runs[::-1]:
            run.end_with_process(self._error)

    def _observe(self) -> None:
        self._observe_exceptions()
        if shell() is None:  # in IPython, a cell that calls sys.exit does not end the process
            self._observe_exit()
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            _protect_forks()
            signal.signal(signal.SIGTERM, _interrupt)
            self._restore.append(_restore_sigterm)

    def _observe_exceptions(self) -> None:
        before = sys.excepthook

        def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self._error = error
            before(kind, error, trace)

        def restore() -> None:
            if sys.excepthook is note:
                sys.excepthook = before

        sys.excepthook = note
        self._restore.append(restore)

    def _observe_exit(self) -> None:
        before = sys.exit

        def note(status: str | int | None = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():
                self._error = SystemExit(status)
            before(status)

        def restore() -> None:
            if sys.exit is note:
                sys.exit = before

        sys.exit = note
        self._restore.append(restore)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def _restore_sigterm() -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@cache
def _protect_forks() -> None:
    """Let SIGTERM end each fork as without the handler, which belongs to the process that opened the run.

    Python forgets signals that arrive in a fork before it runs, so they are blocked until the handler is removed.
    """
    masks: list[set[int | signal.Signals]] = []

    def block() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def unblock_in_fork() -> None:
        if signal.getsignal(signal.SIGTERM) is _interrupt and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=unblock_in_fork)


OPEN_RUNS = OpenRuns()
