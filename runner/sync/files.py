"""Sends the files of a run to a server."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runner.base import progress
from runner.base.files import Stamp, sha256_from
from runner.base.plurals import counted
from runner.errors import NotFoundError
from runner.model import Event, EventKind
from runner.store import artifact_digests
from runner.store.artifact_paths import as_text, fault_of
from runner.store.artifacts import open_found, status_of, survey
from runner.sync import sync_state
from runner.sync.artifact_locations import ArtifactLocation
from runner.sync.parallel import run_parallel
from runner.sync.push_context import PushContext
from runner.sync.sync_state import SentPosition

FILE = "file"
_AT_ONCE = 4
_MANY = 200
_MUCH = 50_000_000
"""Number of files and bytes from which a progress message is shown."""
_DAMAGED = -1
_DESCRIPTION = "MLmodel"
_MAX_DESCRIPTION = 1 << 20
"""Maximum size in bytes of an MLmodel file that is rewritten."""


class LocalFile(NamedTuple):
    """A local file, by root folder and path components; no component is a link."""

    root: Path
    names: tuple[str, ...]
    recorded: str | None = None
    """The digest that it had when it was recorded."""

    def open(self) -> BinaryIO:
        """Open it for reading.

        Raises:
            InvalidValueError: the path contains a link.
            NotFoundError: the file does not exist.
        """
        return open_found(self.root, self.names)

    def status(self) -> os.stat_result | None:
        """Return the file's status, or None if it does not exist."""
        return status_of(self.root, self.names)


class _Upload(NamedTuple):
    """A candidate for upload: its path on the server, local file, stamp, and the state that was sent before."""

    path: str
    source: LocalFile
    stamp: str
    size: int
    before: SentPosition | None


def send_files(
    context: PushContext,
    location: ArtifactLocation,
    files: Mapping[str, LocalFile],
    prefix: str,
    ids: Mapping[str, str],
) -> None:
    """Send the files that changed since they were last sent, a few in parallel.

    Args:
        context: the run.
        location: the artifact location on the server.
        files: the local files, by their path in that location.
        prefix: distinguishes these files from those of other folders of the run in the sync state.
        ids: the server's ids by local id, for files in which a model names its origin.

    Raises:
        RemoteError: the server refuses a file.
    """
    known = sync_state.sent(context.database, context.copy, FILE)
    faults = {path: fault for path in files if (fault := fault_of(path)) is not None}
    for path, fault in faults.items():
        context.leave_out_files(f"file '{path}'", fault)
    touched = [
        upload
        for path, source in files.items()
        if path not in faults and (upload := _changed_file(path, source, known.get(prefix + path))) is not None
    ]
    _report_large_upload(context, touched)
    with progress.whole(sum(upload.size for upload in touched)) as done:
        for upload, (digest, size) in run_parallel(
            lambda upload: _send(location, upload, ids), touched, _AT_ONCE, "proj-upload"
        ):
            done(upload.size)
            _record(context, upload, prefix, digest, size)


def _record(context: PushContext, upload: _Upload, prefix: str, digest: str, size: int | None) -> None:
    """Record what became of an upload."""
    if size == _DAMAGED:
        context.leave_out_files(f"file '{upload.path}'", "it is damaged: it differs from its recorded digest")
        return
    sync_state.record_sent(
        context.database, context.copy, FILE, {prefix + upload.path: SentPosition(digest, upload.stamp)}
    )
    if size is not None:
        context.count(files=1, bytes=size)


def _report_large_upload(context: PushContext, uploads: Sequence[_Upload]) -> None:
    volume = sum(upload.size for upload in uploads)
    if len(uploads) >= _MANY or volume >= _MUCH:
        files = counted(len(uploads), "file")
        message = f"Sending {files} of run {context.copy.run_id[:8]}, {volume / 1e6:,.0f} MB"
        context.report(Event(kind=EventKind.STEP, message=message))


def local_files(context: PushContext, root: Path | None, owner: str) -> dict[str, LocalFile]:
    """Return the files below the artifact folder of a run or model, by path; special files are reported."""
    if root is None:
        return {}
    found = survey(root)
    for one in found.omissions:
        context.leave_out_files(f"file '{one.path}'", one.reason)
    # The files of a running run may change after their digest was recorded.
    digests = artifact_digests.read(context.database, owner) if context.whole else ()
    recorded = {one.path: one.sha256 for one in digests}
    for path in sorted(recorded.keys() - {"/".join(file.names) for file in found.files}):
        context.leave_out_files(f"file '{as_text(path)}'", "it is missing: its digest was recorded")
    return {file.path: LocalFile(root, file.names, recorded.get("/".join(file.names))) for file in found.files}


def _changed_file(path: str, source: LocalFile, before: SentPosition | None) -> _Upload | None:
    """Return the upload of a file that changed since it was sent, or None if it is unchanged or missing."""
    status = source.status()
    if status is None:
        return None
    found = Stamp.of(status)
    stamp = f"{found.size}:{found.modified}:{found.inode}"
    return None if before is not None and before.note == stamp else _Upload(path, source, stamp, found.size, before)


def _send(location: ArtifactLocation, upload: _Upload, ids: Mapping[str, str]) -> tuple[str, int | None]:
    """Send a file and return its digest and size; the size is None if the server has the content already.

    A file that differs from its recorded digest is not sent, and has the size `_DAMAGED`.
    """
    try:
        opened = upload.source.open()
    except NotFoundError:  # the file was removed in the meantime
        return "", None
    with opened as file:
        digest = sha256_from(file)
        if upload.source.recorded not in (None, digest):
            return digest, _DAMAGED
        if upload.before is not None and upload.before.digest == digest:
            return digest, None
        sent = _with_server_ids(upload, file, ids)
        location.put(upload.path, sent)
        return digest, sent.tell()


def _with_server_ids(upload: _Upload, file: BinaryIO, ids: Mapping[str, str]) -> BinaryIO:
    """Open a file; in a file that names a run and a model, ids are replaced by those of the server."""
    if not ids or upload.source.names[-1] != _DESCRIPTION or upload.size > _MAX_DESCRIPTION:
        return file
    file.seek(0)
    content = file.read(_MAX_DESCRIPTION)
    for ours, theirs in ids.items():
        content = content.replace(ours.encode(), theirs.encode())
    return io.BytesIO(content)
