"""Runs of a folder without a manifest are runs of the project above it."""

from pathlib import Path

from msgspec import structs

from runner.base.nearest_manifest import folder_with_manifest
from runner.model import Event, EventKind, Report, RunRequest


def with_project_above(request: RunRequest, report: Report) -> RunRequest:
    """Return a request for a folder without a manifest as one for the project above it, and report that.

    A script in the folder itself, and any other command, run where the user says.
    """
    if request.resumes or request.reruns or request.command or request.version:
        return request
    folder = Path(request.uri).expanduser()
    if not folder.is_dir() or (request.entry_point and (folder / request.entry_point).is_file()):
        return request
    found = folder_with_manifest(folder)
    if found is None or found == folder:
        return request
    where = "this folder" if folder.absolute() == Path.cwd() else f"'{request.uri}'"
    message = f"The project is {found}, which has an MLproject; {where} has none"
    report(Event(kind=EventKind.NOTICE, message=message))
    return structs.replace(request, uri=str(found))
