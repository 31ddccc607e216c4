"""Recovers the lost database row of a run from its files."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.errors import ProjError
from runner.model import Code, RunDetails, RunStatus
from runner.provenance.metrics import read_metrics_log
from runner.settings import Home
from runner.source.snapshot import RunMetadata, read_run_metadata
from runner.source.snapshot_store import RunCommit, has_run_commit, read_run_commit
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun

EXPERIMENT = "recovered"
REASON = "the row in the database was lost; this record was recovered from the run's files, and its outcome is unknown"


def recover_run(database: Database, home: Home, run_id: str) -> None:
    """Recover a run from its files: code, log, artifacts, and the metrics in its metrics file."""
    started, ended = times_of(home, run_id)
    log, folder = home.log(run_id), home.folders / run_id
    project, code = _code(home, run_id)
    details = RunDetails(
        project=project,
        command="",
        code=code,
        log=str(log) if log.is_file() else None,
        folder=str(folder) if folder.is_dir() else None,
        reason=REASON,
    )
    with database.transaction():
        new = NewRun(
            experiment_id=experiments.ensure(database, EXPERIMENT),
            run_id=run_id,
            name=f"recovered-{run_id[:8]}",
            started_at=started,
            artifact_uri=home.artifacts(run_id).as_uri(),
            details=details,
        )
        runs.create(database, new)
        runs.update(database, run_id, status=RunStatus.LOST, ended_at=ended)
    with suppress(ProjError):  # a refused metric is still in the metrics file
        points = read_metrics_log(home.run(run_id) / "metrics.txt", lambda _event: None)
        found = [Metric(key=name, value=value, timestamp=ended, step=step) for name, value, step in points]
        values.log_metrics(database, run_id, found)


def times_of(home: Home, run_id: str) -> tuple[int, int]:
    """Return the earliest and latest file modification time of a run in milliseconds since 1970."""
    moments = []
    for top in (home.run(run_id), home.folders / run_id, home.snapshot_store / "refs" / "runs" / run_id):
        for path in (top, *_below(top)):
            with suppress(OSError):
                moments.append(path.lstat().st_mtime_ns // 1_000_000)
    return (min(moments), max(moments)) if moments else (0, 0)


def _below(top: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(top)]
    except OSError:
        return []


def _code(home: Home, run_id: str) -> tuple[str | None, Code | None]:
    """Return the project folder and the code of a run, from its snapshot."""
    if not has_run_commit(home, run_id):
        return None, None
    try:
        kept = read_run_commit(home, run_id)
        about = read_run_metadata(kept)
    except (ProjError, msgspec.DecodeError):
        return None, None
    return _project(about), _described(kept, about)


def _project(about: RunMetadata) -> str | None:
    return os.fsdecode(about.root).encode("utf-8", "replace").decode() if about.root else None


def _described(kept: RunCommit, about: RunMetadata) -> Code:
    return Code(
        tree=kept.tree, swhid=f"swh:1:dir:{kept.tree}", commit=about.commit, dirty=about.dirty, remote=about.remote
    )
