"""Continues an interrupted run: restores its outputs, and names inputs that changed since."""

import hashlib
import os
import posixpath
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from runner.base.files import PARTIAL, DigestCache
from runner.base.plurals import counted
from runner.base.safe_paths import LinkError, folder_at, new_file, remove_at
from runner.errors import InvalidValueError, NotFoundError
from runner.model import Event, EventKind, FileRecord, Report, RunDetails, RunRequest
from runner.plan import Plan, make_plan
from runner.provenance.outputs import kept_as
from runner.record import RunRecorder
from runner.recorded_environment import with_recorded_lock
from runner.settings import Home
from runner.source.restored_outputs import RestoredOutputs, restore_outputs
from runner.source.run_folder import RunFolder
from runner.store import runs
from runner.store.artifacts import local_folder, open_found
from runner.store.database import Database
from runner.store.entities import Run

MAX_NOTICES = 20
"""Files that the notices of one resumed run name."""
_PIECE = 1 << 20


def plan_resumption(request: RunRequest, run_id: str, home: Home, report: Report) -> Plan:
    """Return the plan that continues an interrupted run, with the packages that it had.

    Raises:
        ProjError: its code or its lock is missing or damaged.
    """
    with closing(Database.open_to_read(home.database)) as database:
        environment = runs.get(database, run_id).details.environment
    return with_recorded_lock(make_plan(request, home, report), run_id, environment)


def resume(recorder: RunRecorder, folder: RunFolder) -> None:
    """Restore the outputs of the interrupted run, and report the inputs that are not what that run read."""
    resumed = recorder.plan.request.resumes
    if resumed is None:
        return
    run = runs.get(recorder.database, resumed)
    old = _old_top(recorder.plan.home.folders / resumed, run.details)
    if old is not None:
        recorded = (_from_top(one.path, run.details) for one in run.details.outputs)
        restored = restore_outputs(old, folder, recorded)
    else:
        restored = _restore_artifacts(run, folder)
    count = counted(len(restored.files), "output")
    message = f"{count} of the interrupted run {resumed[:8]} restored"
    recorder.report(Event(kind=EventKind.NOTICE, message=message))
    recorder.report_some(restored.notices, MAX_NOTICES)
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


def _restore_artifacts(run: Run, folder: RunFolder) -> RestoredOutputs:
    """Copy recorded outputs from the artifacts of a run whose folder was removed; damaged ones are left out."""
    files, notices = [], []
    root = local_folder(run.artifact_uri)
    for one in run.details.outputs:
        target = Path(os.path.normpath(folder.project / one.path))
        if root is None or not target.is_relative_to(folder.top):
            place = "outside the repository" if root is not None else f"at {run.artifact_uri}"
            notices.append(f"{one.path} is {place}, so it was not restored")
            continue
        try:
            _copy_artifact(root, one, folder.top, target.relative_to(folder.top).parts)
        except (NotFoundError, InvalidValueError, LinkError, OSError) as error:
            notices.append(f"{one.path} was not kept with the run, so it was not restored: {error}")
            continue
        files.append(one.path)
    return RestoredOutputs(files=tuple(files), notices=tuple(notices))


def _copy_artifact(root: Path, recorded: FileRecord, top: Path, names: tuple[str, ...]) -> None:
    """Copy an artifact to a path below a folder.

    Raises:
        InvalidValueError: it has other content than when the run ended; nothing is written then.
        NotFoundError, LinkError, OSError: it can't be read or written.
    """
    digest = hashlib.sha256()
    with (
        open_found(root, tuple(kept_as(recorded.path).split("/"))) as source,
        folder_at(top, names[:-1], create=True) as inside,
    ):
        partial = f"{PARTIAL}{os.urandom(8).hex()}"
        try:
            with os.fdopen(new_file(inside, partial), "wb") as copy:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    copy.write(piece)
            _require_same(recorded, digest.hexdigest())
            os.rename(partial, names[-1], src_dir_fd=inside, dst_dir_fd=inside)
        except BaseException:
            with suppress(FileNotFoundError):
                remove_at(inside, partial)
            raise


def _require_same(recorded: FileRecord, digest: str) -> None:
    if digest != recorded.sha256:
        raise InvalidValueError(f"the artifact '{recorded.path}' changed since the run ended")


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
    return (
        *texts[:MAX_NOTICES],
        *((f"and {counted(len(texts) - MAX_NOTICES, 'more input')}",) if texts[MAX_NOTICES:] else ()),
    )
