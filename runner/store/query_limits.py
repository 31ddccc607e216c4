"""Limits the time of a query; SQLite itself has no such limit."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner.errors import InvalidValueError

_STEPS = 25
"""Steps of SQLite between two checks; one step can compare two long texts, which takes 0.1 s."""


class SlowQueryError(InvalidValueError):
    """A query took longer than its time limit."""


class TimeLimit(threading.local):
    """The time limit of the queries of each thread."""

    deadline: float | None = None
    """The end, of the monotonic clock."""

    @contextmanager
    def __call__(self, seconds: float) -> Iterator[None]:
        """Limit the time of all queries of this thread in a block; a longer one is a `SlowQueryError`."""
        self.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self.deadline = None


@contextmanager
def limited(connection: sqlite3.Connection, deadline: float | None) -> Iterator[None]:
    """Interrupt the queries of a block at a time of the monotonic clock; None means no limit.

    Raises:
        SlowQueryError: a query was interrupted.
    """
    if deadline is None:
        yield
        return
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if str(error) != "interrupted":
            raise
        hint = "Use fewer or simpler conditions, or fewer runs."
        raise SlowQueryError("This request takes too long", hint=hint) from error
    finally:
        connection.set_progress_handler(None, 0)
