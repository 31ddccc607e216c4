"""Sends the code of runs to servers, and takes it from there."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.base.tags import TREE_TAG
from runner.errors import GitError, NotFoundError, RemoteError, SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.code_bundle import take_code, write_code
from runner.source.snapshot_store import has_run_commit
from runner.store.entities import Run
from runner.sync.artifact_locations import ArtifactLocation
from runner.sync.bundle_records import CODE, FOLDER
from runner.sync.push_context import PushContext

MAX_CODE = 1 << 30
"""Bytes of the largest bundle that is sent or taken."""
_KIND = "code"


def send_code(context: PushContext, location: ArtifactLocation, run: Run) -> None:
    """Send the code of a run as a git bundle, unless the server has it.

    Raises:
        RemoteError: the server refuses the file.
    """
    tree = run.tags.get(TREE_TAG)
    if tree is None or not context.changed(_KIND, {CODE: tree}) or not has_run_commit(context.home, run.run_id):
        return
    with tempfile.TemporaryDirectory(prefix="proj-", dir=context.home.root) as temporary:
        bundle = Path(temporary) / "code.bundle"
        try:
            write_code(run.run_id, context.home, bundle)
        except (SnapshotError, GitError) as error:
            context.leave_out_files("its code", error.message)
            return
        size = bundle.stat().st_size
        if size > MAX_CODE:
            context.leave_out_files("its code", f"it has {size >> 20} MB, of at most {MAX_CODE >> 20}")
            return
        with bundle.open("rb") as file:
            location.put(CODE, file)
    context.note(_KIND, {CODE: tree})
    context.count(files=1, bytes=size)


def receive_code(location: ArtifactLocation, run_id: str, tree: str, home: Home, report: Report) -> None:
    """Store the code of a pulled run if the server has it; a damaged bundle is only reported.

    Raises:
        RemoteError: the server fails.
    """
    if has_run_commit(home, run_id):
        return
    found = next((one for one in location.entries(FOLDER) if one.path == CODE), None)
    if found is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="proj-", dir=home.root) as temporary:
            bundle = Path(temporary) / "code.bundle"
            with bundle.open("wb") as file:
                for piece in _limited(location.pieces(CODE, found.size)):
                    file.write(piece)
            take_code(bundle, run_id, tree, home)
    except (SnapshotError, GitError, NotFoundError) as error:
        message = f"The code of the run {run_id[:8]} is not taken: {error.message}"
        report(Event(kind=EventKind.WARNING, message=message, hint=error.context))


def _limited(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CODE:
            raise RemoteError(f"The code on the server has more than {MAX_CODE >> 20} MB", status=400)
        yield piece
