"""Stores the sync state: the content of runs that was sent to each server."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from runner.base.tags import PARENT_TAG
from runner.store.database import Database, Row
from runner.store.row_helpers import run_number
from runner.sync.access import read_access


class RemoteRun(Struct, frozen=True, kw_only=True):
    """A local run on a server; ``remote_run_id`` is None while it is unknown whether the server has the run."""

    number: int
    run_id: str
    server: str
    remote_run_id: str | None
    remote_experiment_id: str | None
    artifact_uri: str | None
    waiting: bool = True
    """Whether content of the run is still to be sent."""

    @property
    def page(self) -> str:
        """The URL of the run's page on the server."""
        return f"{self.server}/#/experiments/{self.remote_experiment_id}/runs/{self.remote_run_id}"


class SentPosition(Struct, frozen=True):
    """A sent item; ``note`` is the stamp of a file or the server's name of the item."""

    digest: str
    note: str = ""


class WaitingRun(Struct, frozen=True, kw_only=True):
    """A run with content to send."""

    run_id: str
    server: str
    remote_run_id: str | None


_COPY = (
    "SELECT c.id AS number, r.run_id, server, remote_run_id, remote_experiment_id, artifact_uri, waiting FROM copies c"
    " JOIN runs r ON r.id = c.run"
).replace("artifact_uri", "c.artifact_uri")


def server_name(uri: str) -> str:
    """Return the key of a server in the sync state: its address without credentials.

    Raises:
        UsageError: the URI is not an address.
    """
    return read_access(uri).url


def open_remote_run(db: Database, run_id: str, server: str) -> RemoteRun:
    """Record that a run is to be sent to a server, and return its state there.

    Raises:
        NotFoundError: there is no such run.
    """
    with db.transaction():
        run = run_number(db, run_id)
        db.execute("INSERT OR IGNORE INTO copies (run, server) VALUES (?, ?)", run, server)
        return _copy(db.query(f"{_COPY} WHERE c.run = ? AND c.server = ?", run, server)[0])


def find_remote_run(db: Database, run_id: str, server: str) -> RemoteRun | None:
    """Return the state of a run on a server, or None if it was never sent there."""
    rows = db.query(f"{_COPY} WHERE r.run_id = ? AND c.server = ?", run_id, server)
    return _copy(rows[0]) if rows else None


def remote_runs_of(db: Database, run_id: str) -> tuple[RemoteRun, ...]:
    """Return the state of a run on all servers."""
    return tuple(_copy(row) for row in db.query(f"{_COPY} WHERE r.run_id = ? ORDER BY c.id", run_id))


def find_remote(db: Database, remote_run_id: str, server: str) -> RemoteRun | None:
    """Return the local run with this id on a server."""
    rows = db.query(f"{_COPY} WHERE c.remote_run_id = ? AND c.server = ?", remote_run_id, server)
    return _copy(rows[0]) if rows else None


def set_remote_ids(db: Database, copy: RemoteRun, run_id: str, experiment_id: str, artifact_uri: str) -> RemoteRun:
    """Record the server's ids and artifact URI of a run."""
    db.execute(
        "UPDATE copies SET remote_run_id = ?, remote_experiment_id = ?, artifact_uri = ? WHERE id = ?",
        run_id,
        experiment_id,
        artifact_uri,
        copy.number,
    )
    return msgspec.structs.replace(
        copy, remote_run_id=run_id, remote_experiment_id=experiment_id, artifact_uri=artifact_uri
    )


def remove_remote_run(db: Database, copy: RemoteRun) -> None:
    """Remove the state of a run on a server."""
    db.execute("DELETE FROM copies WHERE id = ?", copy.number)


def set_waiting(db: Database, copy: RemoteRun, *, waiting: bool) -> None:
    """Record whether a run has content to send."""
    db.execute("UPDATE copies SET waiting = ? WHERE id = ?", waiting, copy.number)


def waiting_runs(db: Database) -> tuple[WaitingRun, ...]:
    """Return the ended runs with content to send, oldest first."""
    rows = db.query(
        "SELECT r.run_id, server, remote_run_id FROM copies c JOIN runs r ON r.id = c.run WHERE waiting"
        " AND r.lifecycle_stage = 'active' AND NOT (owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED'))"
        " ORDER BY r.started_at, r.id"
    )
    return tuple(WaitingRun(**dict(row)) for row in rows)


def sent(db: Database, copy: RemoteRun, kind: str) -> dict[str, SentPosition]:
    """Return the sent items of one kind, by name."""
    rows = db.query("SELECT name, digest, note FROM sent WHERE copy = ? AND kind = ?", copy.number, kind)
    return {row["name"]: SentPosition(row["digest"], row["note"]) for row in rows}


def record_sent(db: Database, copy: RemoteRun, kind: str, sent: Mapping[str, SentPosition]) -> None:
    """Record sent items of one kind."""
    rows = ((copy.number, kind, name, item.digest, item.note) for name, item in sent.items())
    db.execute_many("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?)", rows)


def clear_sent(db: Database, copy: RemoteRun, kind: str, names: Iterable[str]) -> None:
    """Record that items are no longer on the server."""
    db.execute_many(
        "DELETE FROM sent WHERE copy = ? AND kind = ? AND name = ?", ((copy.number, kind, name) for name in names)
    )


def nested_runs(db: Database, run_id: str) -> tuple[str, ...]:
    """Return a run and all runs nested in it, parents first."""
    found = [run_id]
    for parent in found:
        rows = db.query(
            "SELECT r.run_id FROM tags t JOIN runs r ON r.id = t.run WHERE t.key = ?"
            " AND substr(t.value, 1, 64) = ? AND t.value = ? AND r.lifecycle_stage = 'active'"
            " ORDER BY r.started_at, r.id",
            PARENT_TAG,
            parent[:64],
            parent,
        )
        found += [row["run_id"] for row in rows if row["run_id"] not in found]
    return tuple(found)


def _copy(row: Row) -> RemoteRun:
    return msgspec.convert(dict(row), RemoteRun, strict=False)
