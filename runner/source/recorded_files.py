"""Provides a new run folder with the files that a recorded run had beside its tree."""

import os
from pathlib import Path
from posixpath import normpath

from runner.source.opening import RecordedFiles
from runner.source.providing import FilesToProvide, FileToProvide, provide_files


def files_beside(recorded: RecordedFiles, subdirectory: str) -> FilesToProvide:
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


def provide_outside(project: Path, limits: tuple[Path, Path], recorded: RecordedFiles) -> list[tuple[str, Path]]:
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
