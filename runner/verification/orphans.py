"""Finds files without a database row, left by a lost database or a killed command."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from runner.base.files import PARTIAL
from runner.base.findings import Finding, Progress
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, run_git
from runner.source.snapshot_store import has_run_commit
from runner.store.database import Database
from runner.store.row_helpers import RUN_ID, chunks
from runner.verification.recovery import recover_run

PART = "orphan"
_PIECE = 500
_DAY = 86_400
_MODEL = re.compile(r"m-[0-9a-f]{32}")
_REF = "refs/runs/"
_REFS = "vault.git/refs/runs"


def verify_orphans(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Report and recover runs that only have files; report models and uploads without a row."""
    folders = _run_locations(home)
    total = sum(map(len, folders.values()))
    checked = 0
    for name, ids in folders.items():
        for piece in _pieces(iter(sorted(ids))):
            for run_id in _unknown(home, "runs", "run_id", piece):
                if _has_files(home, name, run_id):  # otherwise another command has removed the run meanwhile
                    yield _orphan(home, name, run_id, repair=repair)
            checked += len(piece)
            progress(checked, total)
    models = (path.name for path in _folders(home.models) if _MODEL.fullmatch(path.name))
    for piece in _pieces(models):
        for model_id in _unknown(home, "models", "model_id", piece):
            problem = "files of a logged model without a row in the database; they are kept"
            yield Finding(part=PART, name=f"runs/models/{model_id}", problem=problem)
    yield from _unfinished_uploads(home)


def _run_locations(home: Home) -> dict[str, set[str]]:
    """Return the ids of runs with files, by location; lists all files before any row is read."""
    refs: list[str] = []
    if (home.snapshot_store / "HEAD").exists():
        refs = run_git(GitDirectory(git_dir=home.snapshot_store), "for-each-ref", "--format=%(refname)", _REF).lines
    runs = {path.name for path in _folders(home.root / "runs")}
    kept = {name.removeprefix(_REF) for name in refs} - runs
    folders = {path.name for path in _folders(home.folders)} - runs - kept
    found = {"runs": runs, _REFS: kept, "folders": folders}
    return {folder: set(filter(RUN_ID.fullmatch, names)) for folder, names in found.items()}


def _folders(parent: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(parent) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def _pieces(names: Iterator[str]) -> Iterator[list[str]]:
    while piece := list(islice(names, _PIECE)):
        yield piece


def _unknown(home: Home, table: str, column: str, names: Sequence[str]) -> list[str]:
    """Return the names that are missing from a table."""
    known: set[str] = set()
    with closing(Database.open_to_read(home.database)) as database:
        for piece, marks in chunks(names):
            rows = database.query(f"SELECT {column} FROM {table} WHERE {column} IN ({marks})", *piece)
            known.update(row[0] for row in rows)
    return [name for name in names if name not in known]


def _has_files(home: Home, place: str, run_id: str) -> bool:
    return os.path.lexists(home.root / place / run_id) or (place == _REFS and has_run_commit(home, run_id))


def _orphan(home: Home, folder: str, run_id: str, *, repair: bool) -> Finding:
    done = None
    if repair:
        with closing(Database.open(home.database)) as database:
            recover_run(database, home, run_id)
        done = f"recovered from its files: proj show {run_id[:12]}"
    problem = "files of a run without a row in the database; they are kept"
    return Finding(part=PART, name=f"{folder}/{run_id}", problem=problem, repair=done)


def _unfinished_uploads(home: Home) -> Iterator[Finding]:
    """Yield incomplete uploads that were not written to for a day."""
    for run in _folders(home.root / "runs"):
        for path in run.glob(f"artifacts/**/{PARTIAL}*"):
            if _is_old(path):
                name = path.relative_to(home.root).as_posix()
                yield Finding(part=PART, name=name, problem="an incomplete upload; it is kept")


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _DAY
    except FileNotFoundError:
        return False
