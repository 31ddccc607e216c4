"""Repairs rows with missing parents: restores the parent row or removes the orphaned row."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.base.plurals import counted
from runner.base.tags import RUN_NAME_TAG, USER_TAG
from runner.errors import StoreError
from runner.model import RunDetails, RunStatus
from runner.settings import Home
from runner.store import experiments
from runner.store.database import Database
from runner.store.migrations import MIGRATIONS
from runner.store.row_helpers import RUN_ID, now
from runner.verification.recovery import EXPERIMENT, times_of

_WITH_EXPERIMENT = ("runs", "models", "datasets")


def complete_references(database: Database) -> str:
    """Restore missing runs and experiments that other rows refer to, remove orphaned rows, and return a summary."""
    with database.transaction():
        runs = sum(_make_run(database, number, details) for number, details in _runs_without_row(database))
        made = sum(_make_experiment(database, number) for number in _experiments_without_row(database))
        removed = 0
        for _ in range(len(MIGRATIONS)):  # a removed row may be the parent of other rows
            loose = database.query("PRAGMA main.foreign_key_check")
            if not loose:
                break
            removed += _remove_loose(database, {(row["table"], row["fkid"]) for row in loose})
    restored = f"restored {counted(runs, 'run')} and {counted(made, 'experiment')}"
    return f"{restored}, removed {counted(removed, 'row')} without a parent"


def _runs_without_row(database: Database) -> Iterator[tuple[int, RunDetails]]:
    statement = "SELECT run, document FROM details WHERE run NOT IN (SELECT id FROM runs)"
    for number, document in database.query(statement):
        with suppress(msgspec.DecodeError):
            yield number, msgspec.json.decode(document, type=RunDetails)


def _make_run(database: Database, number: int, details: RunDetails) -> int:
    """Restore the row of a run from its details, whose log path contains the id; return the number of rows."""
    run_id = Path(details.log or "").parent.name
    if not RUN_ID.fullmatch(run_id):
        return 0
    home = Home(database.path.parent)
    tags = {row["key"]: row["value"] for row in database.query("SELECT key, value FROM tags WHERE run = ?", number)}
    started, ended = times_of(home, run_id)
    status = RunStatus.LOST if details.exit_code is None else RunStatus.FAILED
    values = {
        "id": number,
        "run_id": run_id,
        "experiment": int(experiments.ensure(database, EXPERIMENT)),
        "name": tags.get(RUN_NAME_TAG, f"recovered-{run_id[:8]}"),
        "user": tags.get(USER_TAG, ""),
        "status": (RunStatus.FINISHED if details.exit_code == 0 else status).value,
        "started_at": started,
        "ended_at": ended,
        "artifact_uri": home.artifacts(run_id).as_uri(),
    }
    sql = f"INSERT OR IGNORE INTO runs ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    return database.execute(sql, *values.values())


def _experiments_without_row(database: Database) -> set[int]:
    known = "SELECT id FROM experiments"
    questions = (f"SELECT experiment FROM {table} WHERE experiment NOT IN ({known})" for table in _WITH_EXPERIMENT)
    return {row[0] for statement in questions for row in database.query(statement)}


def _make_experiment(database: Database, number: int) -> int:
    name = "Default" if number == 0 else f"recovered-{number}"
    sql = "INSERT OR IGNORE INTO experiments (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)"
    return database.execute(sql, number, name, now(), now())


def _remove_loose(database: Database, broken: set[tuple[str, int]]) -> int:
    count = 0
    for table, number in sorted(broken):
        parts = [row for row in database.query(f"PRAGMA foreign_key_list({table})") if row["id"] == number]
        parent = parts[0]["table"]
        targets = [row["to"] or _key_of(database, parent) for row in parts]
        pairs = [f"p.{target} = {table}.{row['from']}" for row, target in zip(parts, targets, strict=True)]
        try:
            count += database.execute(
                f"DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {parent} p WHERE {' AND '.join(pairs)})"
            )
        except sqlite3.Error as error:
            raise StoreError("A row without a parent can't be removed", context=str(error)) from error
    return count


def _key_of(database: Database, table: str) -> str:
    return next(str(row["name"]) for row in database.query(f"PRAGMA table_info({table})") if row["pk"])
