"""Shows a bar on the terminal for work that takes more than a second."""

import sys
import time
from threading import Lock

from runner.base.durations import format_duration
from runner.cli.output import size
from runner.model import Event, Report

DELAY = 1.0
"""Seconds of work before a bar appears."""
_INTERVAL = 0.1
_WIDTH = 24


class ProgressLine:
    """A line that is rewritten while work goes on, and removed when it has ended or something else is printed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._started = self._drawn = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._is_shown = False

    def reporting(self, report: Report) -> Report:
        """Return a reporter that removes the line before an event is printed."""

        def passed(event: Event) -> None:
            self.clear()
            report(event)

        return passed

    def begin(self, total: int | None) -> None:
        """Note that work on so many bytes begins."""
        self._total, self._done = total, 0

    def advance(self, count: int) -> None:
        """Note that so many more bytes are done, and draw the line if it is time."""
        now = time.monotonic()
        with self._lock:
            self._done += count
            if now - self._started < DELAY or now - self._drawn < _INTERVAL:
                return
            self._drawn = now
            self._is_shown = True
            sys.stderr.write(f"\r\x1b[K  {draw_bar(self._done, self._total)}  {format_duration(now - self._started)}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line; the next one appears after more than a second again."""
        with self._lock:
            self._started = self._drawn = time.monotonic()
            if self._is_shown:
                self._is_shown = False
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()


def draw_bar(done: int, total: int | None) -> str:
    """Return a bar with what is done; without a known total only the bytes."""
    if not total:
        return size(done)
    share = min(1.0, done / total)
    filled = round(share * _WIDTH)
    return f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {share:4.0%}  {size(done)} of {size(total)}"
