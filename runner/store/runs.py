"""Creates, finds, changes, closes and removes runs."""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from runner.base.tags import REMOVING_TAG, RUN_NAME_TAG, WRITTEN_BY_TAG
from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.model import RunDetails, RunStatus
from runner.store import experiments
from runner.store.database import Database, Row
from runner.store.entities import LifecycleStage, Metric, NewRun, ProcessIdentity, Run
from runner.store.names import make_name
from runner.store.row_helpers import (
    RUN_ID,
    checked_tags,
    chunks,
    experiment_number,
    now,
    run_number,
    write_run_tags,
)
from runner.store.rules import check_integer, check_value


class RunPermissions(Struct, frozen=True, kw_only=True):
    """``is_recorded`` is true if proj ran the run's command, ``is_live`` while a process owns the run."""

    is_recorded: bool
    is_live: bool


def create(db: Database, new: NewRun) -> Run:
    """Create a run and return it.

    Raises:
        NotFoundError: there is no such experiment.
        AlreadyExistsError: there is a run with this id.
        InvalidValueError: the experiment is deleted, or an id, a name or a tag is invalid.
    """
    run_id = _checked_id(new.run_id)
    pairs = checked_tags(new.tags)
    name = new.name or dict(pairs).get(RUN_NAME_TAG) or make_name()
    with db.transaction():
        experiment = experiments.get(db, new.experiment_id)
        if experiment.lifecycle_stage is not LifecycleStage.ACTIVE:
            raise InvalidValueError(f"The experiment '{experiment.name}' is deleted", hint="Restore it first.")
        if db.query("SELECT 1 FROM runs WHERE run_id = ?", run_id):
            raise AlreadyExistsError(f"A run '{run_id}' already exists")
        columns = {
            "run_id": run_id,
            "experiment": int(experiment.id),
            "name": check_value("run name", RUN_NAME_TAG, name),
            "user": new.user,
            "status": new.status.value,
            "started_at": now() if new.started_at is None else check_integer("The start time", new.started_at),
            "artifact_uri": new.artifact_uri or f"{experiment.artifact_location.rstrip('/')}/{run_id}/artifacts",
            "owner": None if new.owner is None else msgspec.json.encode(new.owner).decode(),
        }
        number = db.insert(
            f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *columns.values()
        )
        write_run_tags(db, number, [*pairs, (RUN_NAME_TAG, name)])
        write_details(db, number, new.details)
        return load(db, [number], details=True)[0]


def get(db: Database, run_id: str) -> Run:
    """Return the run with this id, including deleted ones.

    Raises:
        NotFoundError: there is none.
    """
    return load(db, [run_number(db, run_id)], details=True)[0]


def update(
    db: Database,
    run_id: str,
    *,
    status: RunStatus | UnsetType = UNSET,
    ended_at: int | UnsetType | None = UNSET,
    name: str | UnsetType = UNSET,
) -> Run:
    """Change status, end time or name of an active run and return it.

    An ended run gets an end time even if none is given; a run that has not ended has none.

    Raises:
        NotFoundError: there is none.
        InvalidValueError: the run is deleted, or the time or name is invalid.
    """
    with db.transaction():
        number = run_number(db, run_id, active=True)
        if status is not UNSET:
            db.execute("UPDATE runs SET status = ? WHERE id = ?", status.value, number)
            if status.is_over and (ended_at is UNSET or ended_at is None):
                row = db.query("SELECT started_at, ended_at FROM runs WHERE id = ?", number)[0]
                ended_at = max(now(), row["started_at"]) if row["ended_at"] is None else row["ended_at"]
            ended_at = ended_at if status.is_over else None
        if ended_at is not UNSET:
            moment = None if ended_at is None else check_integer("The end time", ended_at)
            db.execute("UPDATE runs SET ended_at = ? WHERE id = ?", moment, number)
        if name is not UNSET:
            write_run_tags(db, number, [(RUN_NAME_TAG, check_value("run name", RUN_NAME_TAG, name))])
        return load(db, [number], details=True)[0]


def set_details(db: Database, run_id: str, details: RunDetails) -> None:
    """Replace the details that proj records in addition to MLflow's fields."""
    with db.transaction():
        write_details(db, run_number(db, run_id), details)


def set_owner(db: Database, run_id: str, owner: ProcessIdentity | None) -> None:
    """Set the process that owns a run, or None."""
    document = None if owner is None else msgspec.json.encode(owner).decode()
    with db.transaction():
        db.execute("UPDATE runs SET owner = ? WHERE id = ?", document, run_number(db, run_id))


def move(db: Database, run_id: str, experiment_id: str) -> None:
    """Move an active run to another experiment; its files stay in place.

    Raises:
        NotFoundError: there is no such run or experiment.
        InvalidValueError: one of them is deleted.
    """
    with db.transaction():
        number = run_number(db, run_id, active=True)
        target = experiments.get(db, experiment_id)
        if target.lifecycle_stage is not LifecycleStage.ACTIVE:
            raise InvalidValueError(f"The experiment '{target.name}' is deleted", hint="Restore it first.")
        db.execute("UPDATE runs SET experiment = ? WHERE id = ?", int(target.id), number)


def delete(db: Database, run_id: str) -> None:
    """Mark a run as deleted; `restore` reverses it, `purge` removes the rows."""
    _move(db, run_id, LifecycleStage.DELETED, now())


def restore(db: Database, run_id: str) -> None:
    """Restore a deleted run.

    Raises:
        InvalidValueError: the removal of its files has begun.
    """
    if db.query("SELECT 1 FROM tags WHERE run = ? AND key = ?", run_number(db, run_id), REMOVING_TAG):
        raise InvalidValueError(
            f"The run '{run_id}' can't be restored: the removal of its files has begun",
            hint=f"`proj rm --permanently {run_id}` completes it.",
        )
    _move(db, run_id, LifecycleStage.ACTIVE, None)


def purge(db: Database, run_id: str) -> None:
    """Remove every row of a run; the caller removes its files first."""
    with db.transaction():
        db.execute("DELETE FROM runs WHERE id = ?", run_number(db, run_id))


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


def by_prefix(db: Database) -> dict[str, tuple[str, ...]]:
    """Return the ids of the runs that used each environment prefix or image, oldest first."""
    found: dict[str, list[str]] = {}
    sql = (
        "SELECT run_id, coalesce(json_extract(document, '$.environment.prefix'),"
        " json_extract(document, '$.environment.image')) AS prefix"
        " FROM details JOIN runs ON runs.id = details.run WHERE prefix IS NOT NULL ORDER BY runs.id"
    )
    for row in db.query(sql):
        found.setdefault(row["prefix"], []).append(row["run_id"])
    return {prefix: tuple(ids) for prefix, ids in found.items()}


def load(db: Database, numbers: Sequence[int], *, details: bool = False, with_params: bool = True) -> list[Run]:
    """Return the runs with these row numbers, in this order; missing runs are omitted."""
    found: dict[int, Run] = {}
    for piece, marks in chunks(numbers):
        sql = f"SELECT run, key, value FROM params WHERE run IN ({marks})"
        params = _grouped(db.query(sql, *piece)) if with_params else {}
        tags = _grouped(db.query(f"SELECT run, key, value FROM tags WHERE run IN ({marks})", *piece))
        metrics = _metrics(db, piece, marks)
        documents = load_details(db, piece, marks) if details else {}
        for row in db.query(f"SELECT * FROM runs WHERE id IN ({marks})", *piece):
            number = row["id"]
            found[number] = _run(
                row,
                (params.get(number, {}), tags.get(number, {})),
                metrics.get(number, {}),
                documents.get(number, RunDetails()),
            )
    return [found[number] for number in numbers if number in found]


def _checked_id(run_id: str | None) -> str:
    if run_id is None:
        return uuid.uuid4().hex
    if not RUN_ID.fullmatch(run_id):
        raise InvalidValueError(
            f"'{run_id[:80]}' is not a valid run id", hint="An id has 32 hexadecimal digits in lower case."
        )
    return run_id


def write_details(db: Database, number: int, details: RunDetails) -> None:
    """Replace the details of the run with this row number."""
    document = msgspec.json.encode(details).decode()
    db.execute("INSERT OR REPLACE INTO details VALUES (?, ?)", number, document)


def _move(db: Database, run_id: str, stage: LifecycleStage, deleted_at: int | None) -> None:
    with db.transaction():
        number = run_number(db, run_id)
        db.execute("UPDATE runs SET lifecycle_stage = ?, deleted_at = ? WHERE id = ?", stage.value, deleted_at, number)


def _grouped(rows: list[Row]) -> dict[int, dict[str, str]]:
    groups: dict[int, dict[str, str]] = {}
    for number, key, value in rows:
        groups.setdefault(number, {})[key] = value
    return groups


def _metrics(db: Database, piece: Sequence[int], marks: str) -> dict[int, dict[str, Metric]]:
    groups: dict[int, dict[str, Metric]] = {}
    for number, key, value, timestamp, step in db.query(
        f"SELECT run, key, value, timestamp, step FROM metrics WHERE run IN ({marks})", *piece
    ):
        metric = Metric(key=key, value=float("nan") if value is None else value, timestamp=timestamp, step=step)
        groups.setdefault(number, {})[key] = metric
    return groups


def load_details(db: Database, piece: Sequence[int], marks: str) -> dict[int, RunDetails]:
    """Return the details of the runs with these row numbers; ``marks`` are the placeholders for the numbers."""
    rows = db.query(f"SELECT run, document FROM details WHERE run IN ({marks})", *piece)
    return {number: msgspec.json.decode(document, type=RunDetails) for number, document in rows}


def _run(
    row: sqlite3.Row,
    words: tuple[Mapping[str, str], Mapping[str, str]],
    metrics: Mapping[str, Metric],
    details: RunDetails,
) -> Run:
    return Run(
        run_id=row["run_id"],
        experiment_id=str(row["experiment"]),
        name=row["name"],
        user=row["user"],
        status=RunStatus(row["status"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        lifecycle_stage=LifecycleStage(row["lifecycle_stage"]),
        artifact_uri=row["artifact_uri"],
        params=words[0],
        metrics=metrics,
        tags=words[1],
        details=details,
        owner=None if row["owner"] is None else msgspec.json.decode(row["owner"], type=ProcessIdentity),
    )
