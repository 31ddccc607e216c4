"""Opens the code of a recorded run, so that it can be run again."""

import os
from contextlib import closing
from pathlib import Path

from msgspec import structs

from runner.errors import NotFoundError
from runner.model import SourceKind
from runner.settings import Home
from runner.source.address import Address
from runner.source.opening import Source
from runner.source.snapshot import Snapshot, read_large
from runner.source.snapshot_store import read_run_commit
from runner.store import runs
from runner.store.database import Database


def open_run_code(run_id: str, home: Home) -> tuple[Source, Snapshot]:
    """Return source and snapshot of a run of this home: the exact tree that it ran, also if it was dirty.

    The project folder only provides what is not in the tree. It may have changed since, or be gone.

    Raises:
        NotFoundError: proj did not start the run on this machine.
        SnapshotError: the snapshot store does not have its code.
    """
    with closing(Database.open_to_read(home.database)) as database:
        details = runs.get(database, run_id).details
    code, name = details.code, details.project
    if code is None or name is None:
        raise NotFoundError(f"The code of the run {run_id[:8]} is not recorded", hint="It ended before its start.")
    stored = read_run_commit(home, run_id)
    top, large = read_large(stored)
    root = top if top is not None and (top / code.subdirectory).is_dir() else None
    label = _label(details.cwd, code.subdirectory, home) or (top.name if top else "project")
    source = Source(
        kind=SourceKind.FOLDER if top else SourceKind.GIT,
        name=name,
        label=label,
        root=root,
        subdirectory=code.subdirectory,
        commit=code.commit,
        tree=stored.tree,
        ref=code.ref,
        branch=code.branch,
        remote=code.remote,
        frozen=root is None or code.ref is not None,
        address=Address(kind=SourceKind.FOLDER, typed=name, path=root, url=None if root else name),
    )
    code = structs.replace(code, large_files=())
    return source, Snapshot(code=code, label=label, root=top, base=stored.base, large=large)


def _label(cwd: str | None, subdirectory: str, home: Home) -> str | None:
    """Return the name of the repository's folder in the run folder of a run."""
    path = Path(cwd) if cwd else None
    if path is None or not path.is_relative_to(home.folders):
        return None
    depth = len(Path(os.path.normpath(subdirectory)).parts) if subdirectory else 0
    return path.parents[depth - 1].name if depth else path.name
