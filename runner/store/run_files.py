"""Names the run bundle: the files that proj adds to the artifacts of a run on a server.

The bundle has the record, the log and the environment lock of the run.
"""

from collections.abc import Iterable

from runner.base.foreign_text import ForeignTextError, Limits, parse_json_as
from runner.model import RunRecord
from runner.settings import LOCK_NAMES

FOLDER = "proj"
"""Folder of the bundle among the artifacts of a run on a server."""
RECORD_NAME = "record.json"
LOG_NAME = "log.txt"
RECORD = f"{FOLDER}/{RECORD_NAME}"
KEPT = {f"{FOLDER}/{name}": name for name in (LOG_NAME, *LOCK_NAMES)}
"""Files that are copied unchanged: path on a server, and name in the local folder of the run."""
MAX_RECORD = 64 << 20
"""Maximum size of a record in bytes, for sending and for reading, because clients may store anything there."""


def read_record(pieces: Iterable[bytes]) -> RunRecord | None:
    """Return the record in the given JSON pieces, or None if it is invalid or too large."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_RECORD:
            return None
    try:
        return parse_json_as(bytes(content), RunRecord, Limits(size=MAX_RECORD))
    except ForeignTextError:
        return None
