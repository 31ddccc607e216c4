"""Divides the files that the server may open between connections and transfers of artifacts."""

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
class FileBudget:
    """Counts the files of the transfers in progress; only the event loop uses it."""

    def __init__(self, most: int) -> None:
        self.left = most

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Count the files of one transfer for the duration of a block.

        Raises:
            RefusedError: too many transfers are in progress; clients try again.
        """
        if self.left < count:
            raise RefusedError(ErrorCode.TEMPORARILY_UNAVAILABLE, "Too many files are being transferred; try again.")
        self.left -= count
        try:
            yield
        finally:
            self.left += count


MAX_TRANSFER_FILES = min(_DEFAULT, max_files()) // _TRANSFERS
TRANSFERS = FileBudget(MAX_TRANSFER_FILES)
