"""Shows a line on the terminal for work that takes more than a second: a bar if its amount is known, and the time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Signal
from threading import Lock, Thread

from runner.base import progress
from runner.base.durations import format_duration
from runner.cli.output import size
from runner.cli.verbosity import Verbosity, verbosity
from runner.model import Event, Report

DELAY = 1.0
"""Seconds of work before a line appears."""
_INTERVAL = 0.1
_TICK = 0.5
"""Seconds between two looks at work that says nothing."""
_WIDTH = 24


class ProgressLine:
    """A line that is rewritten while work goes on, and removed when it has ended or something else is printed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._started = self._drawn = time.monotonic()
        self._total: int | None = None
        self._what = ""
        self._done = 0
        self._is_shown = self._is_suspended = False

    def reporting(self, report: Report) -> Report:
        """Return a reporter that removes the line before an event is printed."""

        def passed(event: Event) -> None:
            self.clear()
            report(event)

        return passed

    def begin(self, total: int | None, what: str = "") -> None:
        """Note that work on so many items begins."""
        self._total, self._what, self._done = total, what, 0

    def advance(self, count: int) -> None:
        """Note that so many more items are done, and draw the line if it is time."""
        now = time.monotonic()
        with self._lock:
            self._done += count
            self._draw(now, _INTERVAL)

    def tick(self) -> None:
        """Draw the line if it is time, because the work may say nothing."""
        now = time.monotonic()
        with self._lock:
            self._draw(now, DELAY)

    def _draw(self, now: float, interval: float) -> None:
        if self._is_suspended or now - self._started < DELAY or now - self._drawn < interval:
            return
        self._drawn = now
        self._is_shown = True
        bar = f"{draw_bar(self._done, self._total, self._what)}  " if self._done or self._total else ""
        sys.stderr.write(f"\r\x1b[K  {bar}{format_duration(now - self._started)}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line; the next one appears after more than a second again."""
        with self._lock:
            self._clear()

    def suspend(self) -> None:
        """Remove the line, and show none until `resume` is called."""
        with self._lock:
            self._is_suspended = True
            self._clear()

    def resume(self) -> None:
        """Show lines again."""
        with self._lock:
            self._is_suspended = False
            self._clear()

    def _clear(self) -> None:
        self._started = self._drawn = time.monotonic()
        self._total, self._done = None, 0
        if self._is_shown:
            self._is_shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show the progress of all work until the end of the block, on a terminal, unless users want quiet."""
    if not sys.stderr.isatty() or verbosity() is Verbosity.QUIET:
        yield
        return
    line, ended = ProgressLine(), Signal()

    def tick() -> None:
        while not ended.wait(_TICK):
            line.tick()

    ticking = Thread(target=tick, name="proj-progress", daemon=True)
    ticking.start()
    try:
        with progress.observing(line):
            yield
    finally:
        ended.set()
        ticking.join()
        line.clear()


def draw_bar(done: int, total: int | None, what: str = "") -> str:
    """Return a bar with what is done; without a known total only the amount. ``what`` names the items, "" is bytes."""
    if not total:
        return _amount(done, what)
    share = min(1.0, done / total)
    filled = round(share * _WIDTH)
    known = f"{done:,}" if what else size(done)
    return f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {share:4.0%}  {known} of {_amount(total, what)}"


def _amount(count: int, what: str) -> str:
    return f"{count:,} {what}" if what else size(count)
