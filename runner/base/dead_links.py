"""Leaves out lines in which MLflow's client links to a server that exists only while the command runs.

The lines are those of ``mlflow.end_run`` and of logged models: ``🏃 View run NAME at: http://HOST:PORT/#/…``; older
clients log them after a time (``2024/09/10 12:00:00 INFO mlflow…: 🏃 View run …``).
"""

import re
from collections.abc import Iterable

_STARTS = (b"\xf0\x9f\x8f\x83", b"\xf0\x9f\xa7\xaa", b"\xf0\x9f\x94\x97", b"View ")
"""The beginnings of such lines: three emoji in UTF-8, or the word itself."""
_TIME = re.compile(rb"\d{4}/\d\d/\d\d ")
_BEGINNING_OF_TIME = re.compile(rb"\d{1,4}|\d{4}/\d{0,2}|\d{4}/\d\d/\d{0,2}")
MAX_HELD = 8192
"""Bytes of a line that are held back; a longer line is none of the client's."""


class LinkFilter:
    """Removes the lines from bytes that arrive in pieces; only what may be such a line is held back."""

    def __init__(self, addresses: Iterable[str]) -> None:
        hosts = b"|".join(re.escape(address.encode()) for address in addresses if address)
        self._link = re.compile(rb"View [^\n]{0,500}https?://(?:" + hosts + rb")/#/") if hosts else None
        self._held = b""
        self._is_inside = False
        """Whether a part of the present line was shown."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece, and return what is complete, without the lines."""
        if self._link is None:
            return data
        *lines, last = (self._held + data).split(b"\n")
        shown = []
        for line in lines:
            if self._is_inside or not self._link.search(line):
                shown.append(line + b"\n")
            self._is_inside = False
        if not self._is_inside and _may_be_link(last):
            self._held = last
        else:
            self._held = b""
            self._is_inside = self._is_inside or bool(last)
            shown.append(last)
        return b"".join(shown)

    def end(self) -> bytes:
        """Return the rest of the stream."""
        held, self._held = self._held, b""
        return b"" if self._link is None or self._link.search(held) else held


def _may_be_link(line: bytes) -> bool:
    """Return whether an incomplete line may be the beginning of a line to leave out."""
    if not line or len(line) > MAX_HELD:
        return False
    if any(line.startswith(start) or start.startswith(line) for start in _STARTS):
        return True
    return bool(_TIME.match(line) or _BEGINNING_OF_TIME.fullmatch(line))
