"""Reads the progress that ``git fetch --progress`` prints, see git-fetch(1)."""

import re

from runner.base import progress

_COUNTED = re.compile(rb"(?:remote: )?(\w+) (objects|deltas): +\d+% \((\d+)/(\d+)\)")
_SHOWN = {b"Receiving": "objects", b"Resolving": "deltas"}
_PROGRESS_LINE = re.compile(
    r"(?:remote: )?(?:(?:Enumerating|Counting|Compressing|Receiving|Resolving|Unpacking|Finding) [\w ]+: |Total \d+ )"
    r"|From \S+$| [*+=t -] "
)
_LONGEST = 200
"""Bytes of a line that is not complete yet."""


class FetchProgress:
    """Turns the error output of a fetch, piece by piece, into the progress of receiving and resolving objects."""

    def __init__(self) -> None:
        self._rest = b""
        self._stage = b""
        self._done = 0

    def __call__(self, piece: bytes) -> None:
        """Take the next piece of the output."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + piece)
        self._rest = rest[-_LONGEST:]
        for found in map(_COUNTED.match, lines):
            if found is not None and found[1] in _SHOWN:
                self._note(found[1], int(found[3]), int(found[4]))

    def _note(self, stage: bytes, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage, self._done = stage, 0
            progress.begin(total, _SHOWN[stage])
        progress.advance(max(0, done - self._done))
        self._done = max(self._done, done)


def without_progress(error_text: str) -> str:
    """Return the error output of a fetch without lines of progress and of refs that were fetched."""
    lines = re.split(r"[\r\n]+", error_text)
    return "\n".join(line for line in lines if not _PROGRESS_LINE.match(line))
