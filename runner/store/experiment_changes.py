"""Moves runs between experiments, which MLflow does not support."""

from runner.errors import InvalidValueError
from runner.store import experiments
from runner.store.database import Database
from runner.store.entities import LifecycleStage
from runner.store.row_helpers import run_number


def move_run(db: Database, run_id: str, experiment_id: str) -> None:
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
