"""Finds runs whose log or code snapshot is missing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from runner.base.files import open_regular, sha256_from
from runner.base.findings import Finding, Progress
from runner.model import RunDetails
from runner.settings import Home
from runner.source.snapshot_store import has_run_commit
from runner.store.database import Database

PART = "orphan"
_PAGE = 500
_ACTIVE = "r.lifecycle_stage = 'active'"


def verify_records(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:  # noqa: ARG001
    """Report the locally recorded runs that lost their log or their code; these can't be repaired."""
    if not home.database.exists():
        return
    with closing(Database.open_to_read(home.database)) as database:
        total = database.query("SELECT count(*) FROM runs")[0][0]
        last = checked = 0
        while rows := database.query(
            "SELECT r.id, r.run_id, d.document FROM runs r JOIN details d ON d.run = r.id"
            f" WHERE r.id > ? AND {_ACTIVE} ORDER BY r.id LIMIT ?",
            last,
            _PAGE,
        ):
            for row in rows:
                findings = list(_lost(home, row["run_id"], row["document"]))
                # Another command may have removed the run since the page was read.
                if findings and database.query(f"SELECT 1 FROM runs r WHERE r.id = ? AND {_ACTIVE}", row["id"]):
                    yield from findings
            last = rows[-1]["id"]
            checked += len(rows)
            progress(checked, total)


def _lost(home: Home, run_id: str, document: str) -> Iterator[Finding]:
    try:
        details = msgspec.json.decode(document, type=RunDetails)
    except msgspec.DecodeError:
        yield Finding(part=PART, name=run_id, problem="the details of this run in the database can't be read")
        return
    if details.command is None:  # the run was not started here
        return
    if details.exit_code is not None and details.log and not Path(details.log).is_file():
        yield Finding(part=PART, name=run_id, problem=f"the log of this run is missing: {details.log}")
    elif problem := _log_problem(details):
        yield Finding(part="log", name=run_id, problem=problem)
    if details.code is not None and not has_run_commit(home, run_id):
        yield Finding(part="snapshot", name=run_id, problem="the code of this run is not in the snapshot store")


def _log_problem(details: RunDetails) -> str | None:
    if details.log_sha256 is None or details.log is None:
        return None
    try:
        with open_regular(Path(details.log)) as file:
            is_same = sha256_from(file) == details.log_sha256
    except OSError as error:
        return f"the log of this run can't be read: {error.strerror}"
    return None if is_same else f"the log of this run is damaged: its content differs from its digest: {details.log}"
