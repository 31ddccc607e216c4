"""Files of a run on their way to a server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runner.files import Stamp, new_folder, remove_tree, sha256_of
from runner.model import Event, EventKind
from runner.store.artifacts import find_artifact, walk_artifacts
from runner.store.remote import ledger
from runner.store.remote.copying import Copying
from runner.store.remote.ledger import Sent
from runner.store.remote.parallel import at_once
from runner.store.remote.places import Place

FILE = "file"
_AT_ONCE = 4
_MANY = 200
_MUCH = 50_000_000
"""From how many files, and bytes, on the user is told."""
_DESCRIPTION = "MLmodel"
_MAX_DESCRIPTION = 1 << 20
"""Bytes of a file that says where a model came from."""


class _Upload(NamedTuple):
    """A file to be looked at: its path on the server, where it is here, its stamp, and what was sent of it before."""

    path: str
    source: Path
    stamp: str
    size: int
    before: Sent | None


def send_files(copying: Copying, place: Place, files: Mapping[str, Path], prefix: str, ids: Mapping[str, str]) -> None:
    """Send the files that the server does not have as they are now, a few at a time.

    Args:
        copying: the run.
        place: the server's folder.
        files: where the files are here, by their path in that folder.
        prefix: what tells these files from those of other folders of the run.
        ids: what is called otherwise on the server, for the files in which a model says where it came from.

    Raises:
        RemoteError: the server does not take one.
    """
    known = ledger.sent(copying.database, copying.copy, FILE)
    touched = [
        upload
        for path, source in files.items()
        if (upload := _touched(path, source, known.get(prefix + path))) is not None
    ]
    _tell_if_long(copying, touched)
    for upload, (digest, size) in at_once(
        lambda upload: _send(copying, place, upload, ids), touched, _AT_ONCE, "proj-upload"
    ):
        ledger.note_sent(copying.database, copying.copy, FILE, {prefix + upload.path: Sent(digest, upload.stamp)})
        if size is not None:
            copying.count(files=1, bytes=size)


def _tell_if_long(copying: Copying, uploads: Sequence[_Upload]) -> None:
    volume = sum(upload.size for upload in uploads)
    if len(uploads) >= _MANY or volume >= _MUCH:
        files = "1 file" if len(uploads) == 1 else f"{len(uploads)} files"
        message = f"Sending {files} of run {copying.copy.run_id[:8]}, {volume / 1e6:,.0f} MB"
        copying.report(Event(kind=EventKind.STEP, message=message))


def local_files(root: Path) -> dict[str, Path]:
    """Return the files below a folder of artifacts, by path; links are left out."""
    return {info.path: find_artifact(root, info.path) for info in walk_artifacts(root)}


def _touched(path: str, source: Path, before: Sent | None) -> _Upload | None:
    """Return a file that was touched since it was sent; None for another, or one that is gone by now."""
    try:
        found = Stamp.of(source.stat())
    except OSError:
        return None
    stamp = f"{found.size}:{found.modified}:{found.inode}"
    return None if before is not None and before.note == stamp else _Upload(path, source, stamp, found.size, before)


def _send(copying: Copying, place: Place, upload: _Upload, ids: Mapping[str, str]) -> tuple[str, int | None]:
    """Send a file and return its digest and size; None for the size where the server has the content already."""
    digest = sha256_of(upload.source)
    if upload.before is not None and upload.before.digest == digest:
        return digest, None
    with _as_the_server_calls_it(copying, upload.source, ids) as source:
        place.put(upload.path, source)
        return digest, source.stat().st_size


@contextmanager
def _as_the_server_calls_it(copying: Copying, source: Path, ids: Mapping[str, str]) -> Iterator[Path]:
    """Yield a file or, where it says which run and model it is of, a copy with the ids of the server."""
    if not ids or source.name != _DESCRIPTION or source.stat().st_size > _MAX_DESCRIPTION:
        yield source
        return
    content = source.read_bytes()
    for ours, theirs in ids.items():
        content = content.replace(ours.encode(), theirs.encode())
    folder = new_folder(copying.home.root / "cache" / "uploads")
    try:
        copy = folder / _DESCRIPTION
        copy.write_bytes(content)
        yield copy
    finally:
        remove_tree(folder)
