"""The files that proj adds to the artifacts of a run on a server: its record, its log and the lock of its environment.

Pushing writes them, pulling and reading look for them; their names and limits are here once.
"""

from collections.abc import Iterable

from runner.base.foreign_text import ForeignTextError, Limits, parse_json_as
from runner.model import RunRecord
from runner.settings import LOCK_NAMES

FOLDER = "proj"
"""Folder among the artifacts of a run on a server."""
RECORD_NAME = "record.json"
LOG_NAME = "log.txt"
RECORD = f"{FOLDER}/{RECORD_NAME}"
KEPT = {f"{FOLDER}/{name}": name for name in (LOG_NAME, *LOCK_NAMES)}
"""Files that are copied as they are, by their path on a server, and their names in the folder of a run here."""
MAX_RECORD = 64 << 20
"""Bytes of a record: a larger one is not sent, and none is read, for clients may put anything there."""


def read_record(pieces: Iterable[bytes]) -> RunRecord | None:
    """Return the record that pieces of JSON make; None where they are none, or too many."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_RECORD:
            return None
    try:
        return parse_json_as(bytes(content), RunRecord, Limits(size=MAX_RECORD))
    except ForeignTextError:
        return None
