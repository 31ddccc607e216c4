"""Determines whether a run may be changed: whether proj ran its command, and whether it is running."""

from msgspec import Struct

from runner.base.tags import WRITTEN_BY_TAG
from runner.errors import NotFoundError
from runner.store.database import Database
from runner.store.row_helpers import experiment_number, run_number, write_run_tags


class RunPermissions(Struct, frozen=True, kw_only=True):
    """``is_recorded`` is true if proj ran the run's command, ``is_live`` while a process owns the run."""

    is_recorded: bool
    is_live: bool


def find_permissions(db: Database, run_id: str) -> RunPermissions:
    """Return the permissions of a run, including deleted ones.

    Raises:
        NotFoundError: there is no such run.
    """
    rows = db.query(
        "SELECT owner, status, json_extract(document, '$.command') AS command FROM runs r"
        " LEFT JOIN details d ON d.run = r.id WHERE run_id = ?",
        run_id,
    )
    if not rows:
        raise NotFoundError(f"There is no run '{run_id[:80]}'", hint="See `proj list`.")
    row = rows[0]
    is_live = row["owner"] is not None and row["status"] in ("RUNNING", "SCHEDULED")
    return RunPermissions(is_recorded=is_live or row["command"] is not None, is_live=is_live)


def has_live_runs(db: Database, experiment_id: str) -> bool:
    """Return whether any run of an experiment is owned by a process."""
    live = "SELECT 1 FROM runs WHERE owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED') AND experiment = ?"
    return bool(db.query(f"{live} LIMIT 1", experiment_number(experiment_id)))


def note_writer(db: Database, run_id: str, writer: str) -> None:
    """Record on a run that the command of another run writes to it.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the run is deleted.
    """
    with db.transaction():
        number = run_number(db, run_id, active=True)
        rows = db.query("SELECT value FROM tags WHERE run = ? AND key = ?", number, WRITTEN_BY_TAG)
        known = rows[0]["value"].split() if rows else []
        if writer not in known:
            write_run_tags(db, number, [(WRITTEN_BY_TAG, " ".join([*known, writer]))])
