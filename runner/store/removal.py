"""Removes runs permanently: their files, their logged models and their rows."""

import os
import stat
from pathlib import Path

from runner.base.safe_paths import folder_at, remove_at, status_at
from runner.errors import InvalidValueError, StoreError
from runner.model import RunStatus
from runner.settings import Home
from runner.store import runs, trash
from runner.store.database import Database


def refuse_live(db: Database, run_id: str) -> None:
    """Refuse the removal of a running run.

    Raises:
        NotFoundError: there is no such run.
        InvalidValueError: the process of the run is alive.
    """
    run = runs.get(db, run_id)
    if run.owner is not None and run.status in (RunStatus.RUNNING, RunStatus.SCHEDULED):
        raise InvalidValueError(
            f"The run {run_id[:8]} ({run.name}) is {run.status.value}",
            hint=f"Stop it first; its process is {run.owner.pid} on {run.owner.host}.",
        )


def remove_run(db: Database, run_id: str, home: Home) -> int:
    """Remove a run, its folder and all files that proj kept of it; return the freed bytes.

    Only files inside proj's home are removed, never the project of the run. After an interrupted removal the run is
    marked as deleted and can be removed again.

    Raises:
        NotFoundError: there is no such run.
        StoreError: a file can't be removed.
    """
    trash.begin_removal(db, run_id)
    freed = remove_files(db, run_id, home)
    with db.transaction():
        db.execute("DELETE FROM models WHERE source_run_id = ?", run_id)
        runs.purge(db, run_id)
    return freed


def remove_files(db: Database, run_id: str, home: Home) -> int:
    """Remove only the folders and files of a run, reading the store; return the freed bytes.

    Raises:
        NotFoundError: there is no such run.
        StoreError: a file can't be removed.
    """
    run = runs.get(db, run_id)
    made = [row["model_id"] for row in db.query("SELECT model_id FROM models WHERE source_run_id = ?", run_id)]
    paths = [home.run(run_id), home.folders / run_id, *(home.models / name for name in made)]
    folder = Path(os.path.normpath(run.details.folder or "/"))
    if folder != home.folders and folder.is_relative_to(home.folders):
        paths.append(folder)
    return sum(_remove(path) for path in dict.fromkeys(paths))


def _remove(path: Path) -> int:
    try:
        with folder_at(path.parent) as above:
            found = status_at(above, path.name)
            # proj creates no links here.
            is_ours = found is not None and stat.S_ISDIR(found.st_mode)
            return remove_at(above, path.name) if is_ours else 0
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(
            "A file of the run can't be removed",
            context=str(error),
            hint="Remove it, then run `proj rm --permanently` again.",
        ) from error
