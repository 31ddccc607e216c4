"""Names and reads the run bundle: the files that proj adds to the artifacts of a run on a server.

The bundle has the record, the log and the environment lock of the run.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from runner.base.foreign_text import ForeignTextError, Limits, parse_json_as
from runner.base.tags import (
    BRANCH_TAG,
    COMMIT_TAG,
    DIRTY_TAG,
    ENTRY_POINT_TAG,
    REF_TAG,
    REMOTE_TAG,
    SOURCE_NAME_TAG,
    SUBDIRECTORY_TAG,
    SWHID_TAG,
    TREE_TAG,
)
from runner.errors import InvalidValueError, NotFoundError
from runner.model import Code, RunRecord
from runner.settings import LOCK_NAMES
from runner.store.artifacts import open_artifact

FOLDER = "proj"
"""Folder of the bundle among the artifacts of a run on a server."""
RECORD_NAME = "record.json"
LOG_NAME = "log.txt"
RECORD = f"{FOLDER}/{RECORD_NAME}"
CODE = f"{FOLDER}/code.bundle"
"""The code of the run as a git bundle; only if it was sent."""
KEPT = {f"{FOLDER}/{name}": name for name in (LOG_NAME, *LOCK_NAMES)}
"""Files that are copied unchanged: path on a server, and name in the local folder of the run."""
MAX_RECORD = 64 << 20
"""Maximum size of a record in bytes, for sending and for reading, because clients may store anything there."""
_PIECE = 1 << 20


def code_of(record: RunRecord) -> Code | None:
    """Return the code of a run as far as its tags describe it."""
    tags = record.tags
    if not tags.get(TREE_TAG):
        return None
    return Code(
        tree=tags[TREE_TAG],
        swhid=tags.get(SWHID_TAG, ""),
        commit=tags.get(COMMIT_TAG),
        dirty=tags.get(DIRTY_TAG) == "true",
        branch=tags.get(BRANCH_TAG),
        remote=tags.get(REMOTE_TAG),
        subdirectory=tags.get(SUBDIRECTORY_TAG, ""),
        ref=tags.get(REF_TAG),
    )


def with_tag_details(record: RunRecord) -> RunRecord:
    """Return a record with details from its tags, if it has no details of its own."""
    return msgspec.structs.replace(
        record,
        project=record.tags.get(SOURCE_NAME_TAG),
        entry_point=record.tags.get(ENTRY_POINT_TAG),
        code=code_of(record),
    )


def parse_record(pieces: Iterable[bytes]) -> RunRecord | None:
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


def read_bundle(root: Path | None) -> RunRecord | None:
    """Return the record in a local artifact folder, or None if there is no readable one or the path has a link."""
    if root is None:
        return None
    try:
        with open_artifact(root, RECORD) as file:
            return parse_record(iter(lambda: file.read(_PIECE), b""))
    except (OSError, InvalidValueError, NotFoundError):
        return None


def merge_record(plain: RunRecord, left: RunRecord) -> RunRecord:
    """Return the bundled record, updated with the current values of the store; no paths are local."""
    known = {parameter.name for parameter in left.parameters}
    more = tuple(parameter for parameter in plain.parameters if parameter.name not in known)
    return msgspec.structs.replace(
        left,
        run_id=plain.run_id,
        run_name=plain.run_name,
        experiment=plain.experiment,
        status=plain.status,
        started_at=plain.started_at,
        ended_at=plain.ended_at,
        parameters=(*left.parameters, *more),
        metrics=plain.metrics,
        tags=plain.tags,
        folder=None,
        log=None,
    )
