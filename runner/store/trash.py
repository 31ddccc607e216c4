"""The trash: runs in the lifecycle stage `deleted`, whether `proj rm` or an MLflow client deleted them."""

from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from msgspec import Struct

from runner.base.tags import PARENT_TAG, REMOVING_TAG
from runner.errors import InvalidValueError, NotFoundError
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import LifecycleStage
from runner.store.row_helpers import RUN_ID, chunks, now, run_number, write_run_tags
from runner.store.run_selection import BEGINNING, MAX_LISTED, is_text, several
from runner.store.statements import Fragment


class DeletedRun(Struct, frozen=True, kw_only=True):
    """A run in the trash; times are in milliseconds since 1970. Of a run that ``is_removed`` files are missing."""

    run_id: str
    name: str
    experiment: str
    status: str
    started_at: int
    deleted_at: int | None
    is_removed: bool = False


_DELETED = (
    "SELECT r.run_id, r.name, e.name AS experiment, r.status, r.started_at, r.deleted_at,"
    f" EXISTS (SELECT 1 FROM tags t WHERE t.run = r.id AND t.key = '{REMOVING_TAG}') AS is_removed"
    " FROM runs r JOIN experiments e ON e.id = r.experiment WHERE r.lifecycle_stage = 'deleted'"
)
_EVERY = Fragment("1")


def deleted_runs(db: Database, condition: Fragment = _EVERY) -> list[DeletedRun]:
    """Return the runs in the trash that meet a condition, the one that was deleted last first."""
    rows = db.query(f"{_DELETED} AND {condition.sql} ORDER BY r.deleted_at DESC, r.id DESC", *condition.args)
    return [DeletedRun(**{**dict(row), "is_removed": bool(row["is_removed"])}) for row in rows]


def deleted_before(db: Database, moment: int) -> list[DeletedRun]:
    """Return the runs that were deleted before a time in milliseconds."""
    return deleted_runs(db, Fragment("coalesce(r.deleted_at, 0) < ?", (moment,)))


def resolve_deleted(db: Database, reference: str) -> DeletedRun:
    """Return the run in the trash that an id, its beginning or a name selects.

    Raises:
        NotFoundError: no run in the trash matches.
        InvalidValueError: several runs match; the message lists some.
    """
    found = _matching(db, reference) if is_text(reference) else []
    if not found:
        raise NotFoundError(f"There is no run '{reference}' in the trash", hint="See `proj trash list`.")
    if len(found) > 1:
        raise several(reference, [(run.run_id, run.name) for run in found[: MAX_LISTED + 1]])
    return found[0]


def _matching(db: Database, reference: str) -> list[DeletedRun]:
    if RUN_ID.fullmatch(reference):
        return deleted_runs(db, Fragment("r.run_id = ?", (reference,)))
    found = deleted_runs(db, Fragment("r.name = ?", (reference,)))
    if not found and BEGINNING.fullmatch(reference):
        found = deleted_runs(db, Fragment("r.run_id >= ? AND r.run_id < ?", (reference, f"{reference}g")))
    return found


def delete_together(db: Database, run_ids: Sequence[str]) -> None:
    """Move runs to the trash at one time, by which `deleted_with` finds them again.

    Raises:
        NotFoundError: a run does not exist.
    """
    moment = now()
    with db.transaction():
        for run_id in run_ids:
            number = run_number(db, run_id, active=True)
            db.execute("UPDATE runs SET lifecycle_stage = 'deleted', deleted_at = ? WHERE id = ?", moment, number)


def deleted_with(db: Database, run: DeletedRun) -> list[DeletedRun]:
    """Return a run and the runs nested in it that were deleted together with it, parents first."""
    found = [run]
    for parent in found:
        nested = "EXISTS (SELECT 1 FROM tags t WHERE t.run = r.id AND t.key = ? AND t.value = ?) AND r.deleted_at = ?"
        condition = Fragment(nested, (PARENT_TAG, parent.run_id, run.deleted_at))
        found += [one for one in deleted_runs(db, condition) if one not in found]
    return found


def restore_together(db: Database, run_ids: Iterable[str]) -> None:
    """Restore runs from the trash: all of them, or none.

    Raises:
        InvalidValueError: the removal of a run's files has begun, or its experiment is deleted.
    """
    with db.transaction():
        for run_id in run_ids:
            experiment = experiments.get(db, runs.get(db, run_id).experiment_id)
            if experiment.lifecycle_stage is not LifecycleStage.ACTIVE:
                raise InvalidValueError(
                    f"The experiment '{experiment.name}' of the run {run_id[:8]} is deleted",
                    hint=f"Restore it first: proj experiments restore {experiment.id}",
                )
            runs.restore(db, run_id)


def begin_removal(db: Database, run_id: str) -> None:
    """Record that the removal of a run's files begins: from now on it can't be restored."""
    with db.transaction():
        number = run_number(db, run_id)
        db.execute(
            "UPDATE runs SET lifecycle_stage = 'deleted', deleted_at = coalesce(deleted_at, ?) WHERE id = ?",
            now(),
            number,
        )
        write_run_tags(db, number, [(REMOVING_TAG, "true")])


def resting_versions(db: Database, run_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the registered versions (``NAME/VERSION``) that need the files of one of these runs, by run id."""
    chosen = frozenset(run_ids)
    makers: dict[str, str] = {}
    for piece, marks in chunks(sorted(chosen)):
        rows = db.query(f"SELECT model_id, source_run_id FROM models WHERE source_run_id IN ({marks})", *piece)
        makers.update((row["model_id"], row["source_run_id"]) for row in rows)
    found: dict[str, list[str]] = {}
    for row in db.query("SELECT name, version, run_id, model_id, location FROM named_versions ORDER BY name, version"):
        # A version may name its run, its logged model, or only the folder of one of them.
        named = [row["run_id"], makers.get(row["model_id"])]
        parts = unquote(row["location"]).split("/")
        named += [part if part in chosen else makers.get(part) for part in parts]
        for run_id in dict.fromkeys(one for one in named if one in chosen):
            found.setdefault(run_id, []).append(f"{row['name']}/{row['version']}")
    return found
