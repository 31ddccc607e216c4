"""Opens the code of a recorded run, so that it can be run again."""

import os
from contextlib import closing
from pathlib import Path

from msgspec import structs

from runner.errors import NotFoundError
from runner.model import Code, RunRecord, SourceKind
from runner.settings import Home
from runner.source.address import Address
from runner.source.opening import RecordedFiles, Source
from runner.source.snapshot import Snapshot, read_large
from runner.source.snapshot_store import damaged_run, read_run_commit
from runner.source.sound_objects import require_sound_objects
from runner.store import runs
from runner.store.database import Database


def open_run_code(run_id: str, home: Home) -> tuple[Source, Snapshot]:
    """Return source and snapshot of a run of this home: the exact tree that it ran, also if it was dirty.

    The project folder only provides what is not in the tree. It may have changed since, or be gone.

    Raises:
        NotFoundError: proj did not start the run on this machine.
        SnapshotError: the snapshot store does not have its code, or it is damaged.
    """
    with closing(Database.open_to_read(home.database)) as database:
        details = runs.get(database, run_id).details
    code, name = details.code, details.project
    if code is None or name is None:
        raise NotFoundError(f"The code of the run {run_id[:8]} is not recorded", hint="It ended before its start.")
    snapshot = _read_snapshot(run_id, code, details.cwd, home)
    top = snapshot.root
    root = top if top is not None and (top / code.subdirectory).is_dir() else None
    source = _source(name, snapshot)
    return structs.replace(
        source,
        kind=SourceKind.FOLDER if top else SourceKind.GIT,
        root=root,
        frozen=root is None or code.ref is not None,
        address=structs.replace(source.address, path=root, url=None if root else name),
    ), snapshot


def open_recorded(record: RunRecord, home: Home) -> tuple[Source, Snapshot]:
    """Return the source and the snapshot of a recorded run; nothing outside proj's home is read.

    Raises:
        SnapshotError: the snapshot store does not have the run's code, or it is damaged.
    """
    run_id = record.run_id or ""
    if record.code is None:
        raise NotFoundError(f"The code of the run {run_id[:8]} is not recorded", hint="It ended before its start.")
    snapshot = _read_snapshot(run_id, record.code, record.cwd, home)
    source = structs.replace(
        _source(record.project or run_id, snapshot),
        repository=home.snapshot_store,
        objects=home.snapshot_store / "objects",
        frozen=True,
        recorded=RecordedFiles(),
    )
    return source, snapshot


def _read_snapshot(run_id: str, code: Code, cwd: str | None, home: Home) -> Snapshot:
    stored = read_run_commit(home, run_id)
    if stored.tree != code.tree:
        raise damaged_run(run_id, f"its record names the tree {code.tree}, not {stored.tree}")
    require_sound_objects(home, run_id, stored.tree)
    top, large = read_large(stored)
    label = _label(cwd, code.subdirectory, home) or (top.name if top else "project")
    return Snapshot(code=structs.replace(code, large_files=()), label=label, root=top, base=stored.base, large=large)


def _source(name: str, snapshot: Snapshot) -> Source:
    code = snapshot.code
    return Source(
        kind=SourceKind.FOLDER,
        name=name,
        label=snapshot.label,
        subdirectory=code.subdirectory,
        commit=code.commit,
        tree=code.tree,
        ref=code.ref,
        branch=code.branch,
        remote=code.remote,
        address=Address(kind=SourceKind.FOLDER, typed=name),
    )


def _label(cwd: str | None, subdirectory: str, home: Home) -> str | None:
    """Return the name of the repository's folder in the run folder of a run."""
    path = Path(cwd) if cwd else None
    if path is None or not path.is_relative_to(home.folders):
        return None
    depth = len(Path(os.path.normpath(subdirectory)).parts) if subdirectory else 0
    return path.parents[depth - 1].name if depth else path.name
