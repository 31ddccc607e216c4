"""Makes the output of a command in a terminal plain: without colours, and of a line only what was written last.

Escape sequences are those of ECMA-48 (CSI) and of xterm (OSC).
"""

import re

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[ -/]*[0-~])")
MAX_HELD = 1 << 16
"""Bytes of an unfinished line that are held back, as they may be overwritten."""


class PlainLines:
    """Turns bytes that arrive in pieces into whole plain lines."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece, and return the lines that are complete."""
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > MAX_HELD:
            # Of a progress bar only the newest state is needed.
            self._held = self._held.rpartition(b"\r")[2][-MAX_HELD:]
        return b"".join(_plain(line) + b"\n" for line in lines)

    def end(self) -> bytes:
        """Return the last line, which has no end."""
        held, self._held = self._held, b""
        return _plain(held)


def _plain(line: bytes) -> bytes:
    """Return what a terminal shows of a line in the end, without styles."""
    written = [part for part in _ESCAPES.sub(b"", line).split(b"\r") if part]
    return written[-1] if written else b""
