"""Continues an interrupted run: its outputs are laid back, and inputs that changed since are named."""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from runner.base.files import DigestCache
from runner.base.safe_paths import LinkError, folder_at
from runner.errors import NotFoundError
from runner.model import Event, EventKind, FileRecord, RunDetails
from runner.provenance.outputs import kept_as
from runner.record import RunRecorder
from runner.source.laying_back import LaidBack, lay_back
from runner.source.run_folder import RunFolder
from runner.store import runs
from runner.store.artifacts import local_folder, open_found

MAX_NOTICES = 20
"""Files that the notices of one resumed run name."""
_PIECE = 1 << 20


def resume(recorder: RunRecorder, folder: RunFolder) -> None:
    """Lay the outputs of the interrupted run back, and report the inputs that are not what that run read."""
    resumed = recorder.plan.request.resumes
    if resumed is None:
        return
    run = runs.get(recorder.database, resumed)
    old = _old_top(recorder.plan.home.folders / resumed, run.details)
    if old is not None:
        recorded = (_from_top(one.path, run.details) for one in run.details.outputs)
        laid = lay_back(old, folder, recorded)
    else:
        root = local_folder(run.artifact_uri)
        laid = _lay_back_artifacts(root or Path(), run.details.outputs, folder)
    count = f"{len(laid.files)} output{'s' * (len(laid.files) != 1)}"
    message = f"{count} of the interrupted run {resumed[:8]} laid back"
    recorder.report(Event(kind=EventKind.NOTICE, message=message))
    recorder.report_some(laid.notices, MAX_NOTICES)
    for text in _changed_inputs(recorder, run.details.inputs, folder):
        recorder.report(Event(kind=EventKind.WARNING, message=text))


def _old_top(root: Path, details: RunDetails) -> Path | None:
    """Return the repository's folder in the run folder of an interrupted run, None if the folder was removed."""
    if details.cwd is None or details.code is None or not root.is_dir():
        return None
    top = Path(os.path.normpath(Path(details.cwd) / relative_to_top(details.code.subdirectory)))
    return top if top.is_dir() and top.is_relative_to(root) and not top.is_symlink() else None


def relative_to_top(subdirectory: str) -> str:
    """Return the path from a project folder to the top of its repository."""
    return posixpath.relpath(".", subdirectory or ".")


def _from_top(path: str, details: RunDetails) -> str:
    return posixpath.normpath(posixpath.join(details.code.subdirectory if details.code else "", path))


def _lay_back_artifacts(root: Path, outputs: Sequence[FileRecord], folder: RunFolder) -> LaidBack:
    """Copy recorded outputs from the artifacts of a run whose folder was removed."""
    files, notices = [], []
    for one in outputs:
        names = tuple(kept_as(one.path).split("/"))
        target = Path(os.path.normpath(folder.project / one.path))
        if not target.is_relative_to(folder.top):
            notices.append(f"{one.path} is outside the repository, so it was not laid back")
            continue
        try:
            with folder_at(folder.top, target.relative_to(folder.top).parts[:-1], create=True):
                pass
            target.unlink(missing_ok=True)
            with open_found(root, names) as source, target.open("xb") as copy:
                while piece := source.read(_PIECE):
                    copy.write(piece)
        except (NotFoundError, LinkError, OSError) as error:
            target.unlink(missing_ok=True)
            notices.append(f"{one.path} was not kept with the run, so it was not laid back: {error}")
            continue
        files.append(one.path)
    return LaidBack(files=tuple(files), notices=tuple(notices))


def _changed_inputs(recorder: RunRecorder, inputs: Sequence[FileRecord], folder: RunFolder) -> tuple[str, ...]:
    """Return a text for each recorded input that has other content now, or is gone."""
    cache = DigestCache(recorder.plan.home.root / "cache" / "digests")
    texts = []
    for one in inputs:
        path = folder.project / one.path
        try:
            if cache.digest(path.resolve()) != one.sha256:
                texts.append(f"{one.path} changed since the interrupted run read it")
        except OSError:
            texts.append(f"{one.path}, which the interrupted run read, is gone")
    cache.save()
    return (*texts[:MAX_NOTICES], *((f"and {len(texts) - MAX_NOTICES} more inputs",) if texts[MAX_NOTICES:] else ()))
