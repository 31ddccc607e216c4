"""Opens the frozen tree of a recorded run, and provides a new run folder with the files that the run had beside it."""

import os
from pathlib import Path
from posixpath import normpath

from msgspec import structs

from runner.model import RunRecord, SourceKind
from runner.settings import Home
from runner.source.address import Address
from runner.source.opening import RecordedFiles, Source
from runner.source.providing import FilesToProvide, FileToProvide, provide_files
from runner.source.snapshot import Snapshot, read_large
from runner.source.snapshot_store import damaged_run, read_run_commit
from runner.source.sound_objects import require_sound_objects


def open_recorded(record: RunRecord, home: Home) -> tuple[Source, Snapshot]:
    """Return the source and the snapshot of a recorded run; nothing outside proj's home is read.

    Raises:
        SnapshotError: the snapshot store does not have the run's code, or it is damaged.
    """
    run_id, code = record.run_id or "", record.code
    stored = read_run_commit(home, run_id)
    if code is None or stored.tree != code.tree:
        raise damaged_run(run_id, f"its record names the tree {code.tree if code else 'nothing'}, not {stored.tree}")
    require_sound_objects(home, run_id, stored.tree)
    origin, large = read_large(stored)
    name = record.project or run_id
    source = Source(
        kind=SourceKind.FOLDER,
        name=name,
        label=origin.name if origin else Path((code.remote or name).partition("#")[0]).name.removesuffix(".git"),
        repository=home.snapshot_store,
        objects=home.snapshot_store / "objects",
        subdirectory=code.subdirectory,
        commit=code.commit,
        tree=code.tree,
        ref=code.ref,
        branch=code.branch,
        remote=code.remote,
        frozen=True,
        recorded=RecordedFiles(),
        address=Address(kind=SourceKind.FOLDER, typed=name),
    )
    snapshot = Snapshot(
        code=structs.replace(code, large_files=()), label=source.label, root=origin, base=stored.base, large=large
    )
    return source, snapshot


def recorded_files(recorded: RecordedFiles, subdirectory: str) -> FilesToProvide:
    """Return the files and folders beside the tree of a recorded run, without those outside its repository."""

    def below_top(path: str) -> bytes | None:
        location = normpath(f"{subdirectory}/{path}")
        return None if path.startswith("/") or location.split("/")[0] == ".." else os.fsencode(location)

    files = [
        FileToProvide(path, os.fsencode(origin), sha256)
        for name, origin, sha256 in recorded.inputs
        if (path := below_top(name))
    ]
    folders = [path for name in recorded.folders if (path := below_top(name))]
    return FilesToProvide(files=files, folders=folders, crowded=[])


def bring_recorded(project: Path, limits: tuple[Path, Path], recorded: RecordedFiles) -> list[tuple[str, Path]]:
    """Provide the inputs of a recorded run that were outside its repository, at the same relative path.

    ``limits`` are the folder of the run, which no file leaves, and the folder of the repository in it.
    """
    root, top = limits
    found = []
    files = []
    for name, origin, _ in recorded.inputs:
        target = Path(os.path.normpath(project / name))
        if name.startswith("/") or target.is_relative_to(top) or not target.is_relative_to(root):
            continue
        files.append(FileToProvide(os.fsencode(target.relative_to(root)), os.fsencode(origin)))
        found.append((name, target))
    if files:
        provide_files(root, FilesToProvide(files=files, folders=[], crowded=[]), {})
    return found
