"""Limits what all connections together may use: the open files of transfers, and the memory of large responses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from runner.protocol.errors import ErrorCode, RefusedError

PLAIN = 1
"""Files that a transfer opens."""
SPLICED = 4
"""Files that an upload opens with splice(2): the file, a pipe with two ends, and a copy of the socket."""

_DEFAULT = 4096
_TRANSFERS = 4
"""The part of all files that transfers may open: one in so many."""


def max_files() -> int:
    """Return the maximum number of files that this process may open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _DEFAULT
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _DEFAULT if limit == resource.RLIM_INFINITY else limit


@final
class Budget:
    """Counts what the requests in progress use; only the event loop uses it."""

    def __init__(self, most: int, what: str) -> None:
        self._most = self.left = most
        self._what = what

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Count the use of one request for the duration of a block; a single one may exceed the limit.

        Raises:
            RefusedError: others use too much; clients try again.
        """
        if self.left < count and self.left < self._most:
            raise RefusedError(ErrorCode.TEMPORARILY_UNAVAILABLE, f"Too many {self._what}; try again.")
        self.left -= count
        try:
            yield
        finally:
            self.left += count


MAX_TRANSFER_FILES = min(_DEFAULT, max_files()) // _TRANSFERS
TRANSFERS = Budget(MAX_TRANSFER_FILES, "files are being transferred")
RESPONSES = Budget(256 * 2**20, "large responses are being sent")
