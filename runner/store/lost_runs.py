"""Finds runs whose process ended without recording the end, and marks them as LOST."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from runner.model import RunDetails, RunStatus
from runner.settings import Home
from runner.store.database import Database, Row
from runner.store.entities import ProcessIdentity
from runner.store.process_identity import is_gone
from runner.store.runs import get, load_details, write_details


def mark_lost(db: Database) -> list[str]:
    """Mark runs whose owner ended without closing them as LOST, and return their ids.

    If the command ended before its owner, the run gets the final status of the command. Otherwise the end time is
    that of the last write to the run's log.
    """
    return [row["run_id"] for row, owner in _unfinished(db) if is_gone(owner) and _lose(db, row, owner)]


def show_lost(db: Database) -> list[str]:
    """In a read-only store, show the runs that `mark_lost` would mark as already marked; return their ids."""
    lost = {row["id"]: _as_lost(db, row, owner) for row, owner in _unfinished(db) if is_gone(owner)}
    if lost:
        shown: dict[str, dict[int, str | int]] = {
            "status": {number: ended.status.value for number, ended in lost.items()},
            "ended_at": {number: ended.ended_at for number, ended in lost.items()},
        }
        documents: dict[int, str | int] = {
            number: msgspec.json.encode(ended.details).decode() for number, ended in lost.items()
        }
        db.view((_view(db, "runs", "id", shown), _view(db, "details", "run", {"document": documents})))
    return [ended.run_id for ended in lost.values()]


def _view(db: Database, table: str, key: str, changed: Mapping[str, Mapping[int, str | int]]) -> str:
    """Return the statement for a temporary view that shadows a table, with other values in some rows."""
    columns = []
    for row in db.query(f"PRAGMA main.table_info({table})"):
        name = row["name"]
        cases = " ".join(f"WHEN {number:d} THEN {_literal(value)}" for number, value in changed.get(name, {}).items())
        columns.append(f"CASE {key} {cases} ELSE {name} END AS {name}" if cases else name)
    return f"CREATE TEMP VIEW {table} AS SELECT {', '.join(columns)} FROM main.{table}"


def _literal(value: str | int) -> str:
    """Return a value as an SQL literal, because a view takes no arguments."""
    return str(value) if isinstance(value, int) else "CAST(X'" + value.encode().hex() + "' AS TEXT)"


def is_over(db: Database, run_id: str) -> bool:
    """Return whether a run has ended, even if its end was not recorded."""
    run = get(db, run_id)
    return run.status.is_over or (run.owner is not None and is_gone(run.owner))


def live_runs(db: Database) -> list[tuple[str, ProcessIdentity]]:
    """Return the ids of the runs that were not closed, the newest first, with the processes that own them."""
    return [(row["run_id"], owner) for row, owner in reversed(_unfinished(db))]


def _unfinished(db: Database) -> list[tuple[Row, ProcessIdentity]]:
    """Return the runs that were not closed, with their owners."""
    rows = db.query(
        "SELECT id, run_id, owner, started_at, ended_at FROM runs"
        " WHERE owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED')"
    )
    return [(row, msgspec.json.decode(row["owner"], type=ProcessIdentity)) for row in rows]


class _Lost(Struct, frozen=True):
    """The changes to a run that was not closed."""

    run_id: str
    status: RunStatus
    ended_at: int
    details: RunDetails


def _as_lost(db: Database, row: Row, owner: ProcessIdentity) -> _Lost:
    """Return the changes to a run whose owner has ended; its end is the last write to its log."""
    log = Home(db.path.parent).log(row["run_id"])
    try:
        seen = log.stat().st_mtime_ns // 1_000_000
    except OSError:
        seen = 0
    seen = max(seen, row["started_at"])
    details = load_details(db, [row["id"]], "?").get(row["id"], RunDetails())
    who = f"the process that ran it ({owner.pid} on {owner.host})"
    status = details.command_status
    if status is not None:
        notice = f"{who} ended while collecting the results: metrics, outputs or inputs may be missing"
        details = msgspec.structs.replace(details, notices=(*details.notices, notice))
        ended_at = seen if row["ended_at"] is None else row["ended_at"]
        return _Lost(row["run_id"], status, ended_at, details)
    details = msgspec.structs.replace(details, reason=details.reason or f"{who} ended without recording the outcome")
    return _Lost(row["run_id"], RunStatus.LOST, seen, details)


def _lose(db: Database, row: Row, owner: ProcessIdentity) -> bool:
    """Close a run that was not closed; return False if another process closed it in the meantime."""
    with db.transaction():
        lost = _as_lost(db, row, owner)
        changed = db.execute(
            "UPDATE runs SET status = ?, ended_at = ?"
            " WHERE id = ? AND status IN ('RUNNING', 'SCHEDULED') AND owner = ?",
            lost.status.value,
            lost.ended_at,
            row["id"],
            row["owner"],
        )
        if changed:
            write_details(db, row["id"], lost.details)
    return bool(changed)
