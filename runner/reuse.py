"""Finds the finished run that has the same key as a new one, so that its results can be used instead."""

from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from posixpath import isabs, normpath

from msgspec import Struct

from runner.base.files import DigestCache
from runner.base.tags import EXPLAINS_TAG, KEY_TAG, REPRODUCES_TAG
from runner.model import Event, EventKind, Report
from runner.plan import Plan
from runner.record import RunRecorder
from runner.run_inputs import RunInputs, plan_inputs
from runner.run_key import make_key
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import Run

KEY_FILE = "key.json"
"""The document of a run's key, kept with the run."""
_MOST_COMPARED = 10
_WEEK = timedelta(days=6)


class SameRun(Struct, frozen=True, kw_only=True):
    """A finished run with the key of a new one; ``when`` is its start for people."""

    run_id: str
    name: str
    when: str

    @property
    def text(self) -> str:
        """The run for people."""
        return f"run {self.run_id[:8]} ({self.name}) of {self.when}"


def record_key(recorder: RunRecorder, inputs: RunInputs) -> None:
    """Record the key of a run before its command starts, and name the finished run that has the same key."""
    plan, environment = recorder.plan, recorder.details.environment
    digests = {name: one.sha256 for name, one in inputs.records.items()}
    document = None if environment is None else make_key(plan, environment, digests)
    if document is None:
        return
    is_repetition = plan.request.reruns is not None or bool({REPRODUCES_TAG, EXPLAINS_TAG} & plan.tags.keys())
    same = None if is_repetition else _find(recorder.database, document.key, plan, digests)
    try:
        recorder.keep_file(KEY_FILE, document.canonical().decode())
    except OSError as error:  # a run without a key is as good as another one
        recorder.report(Event(kind=EventKind.WARNING, message=f"The key of the run is not stored: {error.strerror}"))
        return
    recorder.set_tags({KEY_TAG: document.key})
    if same is not None:
        message = f"The same as {same.text}; `--reuse` returns such a run"
        recorder.report(Event(kind=EventKind.STEP, message=message))


def find_same_run(plan: Plan, report: Report) -> SameRun | None:
    """Return the newest finished run with the key of a plan, without recording, resolving or building anything.

    The inputs are digested. None also means that the key is not known before the run: its lock is not resolved yet,
    or it downloads an input.
    """
    inputs = plan_inputs(plan)
    if inputs is None:
        return None
    # What was reported when the environment was chosen for the run that is found is not repeated.
    environment = plan.backend.plan(plan.environment_request())
    document = make_key(plan, environment, inputs)
    if document is None:
        why = "it has secrets, runs in place, or its environment is not resolved yet"
        report(Event(kind=EventKind.STEP, message=f"No run can be reused, as this one has no key: {why}"))
        return None
    with closing(Database.open(plan.home.database)) as database:
        return _find(database, document.key, plan, inputs)


def _find(database: Database, key: str, plan: Plan, inputs: Mapping[str, str]) -> SameRun | None:
    rows = database.query(
        # The index has the first 64 characters of values.
        "SELECT r.run_id FROM tags t JOIN runs r ON r.id = t.run WHERE t.key = ?"
        " AND substr(t.value, 1, 64) = substr(?, 1, 64) AND t.value = ?"
        " AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active'"
        " AND NOT EXISTS (SELECT 1 FROM tags o WHERE o.run = r.id AND o.key IN (?, ?))"
        " ORDER BY r.started_at DESC, r.id DESC LIMIT ?",
        *(KEY_TAG, key, key, REPRODUCES_TAG, EXPLAINS_TAG, _MOST_COMPARED),
    )
    found = (runs.get(database, str(row["run_id"])) for row in rows)
    run = next((run for run in found if _reads_the_same(run, plan, inputs)), None)
    return None if run is None else SameRun(run_id=run.run_id, name=run.name, when=_day(run.started_at))


def _reads_the_same(run: Run, plan: Plan, inputs: Mapping[str, str]) -> bool:
    """Return whether the files that a run was seen to open besides its declared inputs have the same content now."""
    seen = {one.path: one.sha256 for one in run.details.inputs}
    if run.details.observed is not None:
        seen |= {one.path: one.sha256 for one in run.details.observed.inputs if one.sha256 is not None}
    others = {
        name: digest
        for name, digest in seen.items()
        if name not in inputs and "://" not in name and plan.files.identity(name) is None
    }
    if not others:
        return True
    cache, project = DigestCache(plan.home.root / "cache" / "digests"), plan.source.project
    try:
        for name, digest in others.items():
            path = Path(name) if isabs(name) else project and project / normpath(name)
            if path is None or cache.digest(path) != digest:
                return False
    except OSError:
        return False
    with suppress(OSError):  # the next check reads the files again
        cache.save()
    return True


def _day(moment: int | None) -> str:
    """Return a time in milliseconds as a week day and a time, or as a date if it is older than a week."""
    if moment is None:
        return "an unknown day"
    then = datetime.fromtimestamp(moment / 1000, timezone.utc).astimezone()
    is_recent = datetime.now(timezone.utc) - then < _WEEK
    return then.strftime("%A, %H:%M" if is_recent else "%Y-%m-%d")
