"""Checks that the code of a run is stored, and names other places where it can be found."""

from shlex import quote

from runner.base.plurals import counted
from runner.base.tags import COMMIT_TAG, ORIGIN_TAG, REMOTE_TAG
from runner.cli.text import printable
from runner.errors import SnapshotError
from runner.model import RunRecord
from runner.settings import Home
from runner.source.snapshot_store import has_run_commit
from runner.store.database import Database
from runner.store.records import read_record


def require_code(database: Database, home: Home, run_id: str) -> None:
    """Require that the snapshot store has the code of a run.

    Raises:
        SnapshotError: the code is not stored; the message has the commit and the remote, if they are known.
    """
    if not has_run_commit(home, run_id):
        raise _absent(read_record(database, run_id, home))


def clone_command(record: RunRecord) -> str | None:
    """Return the git commands that fetch a run's commit from its remote; None if either is unknown."""
    commit, remote = _commit(record), _remote(record)
    if not commit or not remote:
        return None
    return f"git clone {quote(printable(remote))} DIR && git -C DIR checkout {quote(printable(commit))}"


def _commit(record: RunRecord) -> str | None:
    return (record.code.commit if record.code else None) or record.tags.get(COMMIT_TAG)


def _remote(record: RunRecord) -> str | None:
    return (record.code.remote if record.code else None) or record.tags.get(REMOTE_TAG)


def _absent(record: RunRecord) -> SnapshotError:
    run_id, commit = (record.run_id or "")[:8], _commit(record)
    facts = [f"commit {printable(commit)}"] if commit else []
    if record.code is not None:
        facts.append(f"tree {record.code.tree}")
        if record.code.dirty:
            facts.append(f"{counted(len(record.code.changed_files), 'file')} with uncommitted changes")
    if ORIGIN_TAG in record.tags:
        why = "the run was copied from another store, and only a description of the code came with it"
    elif record.code is None:
        why = "the run was logged by a client, not started by `proj run`"
    else:
        why = "its snapshot is missing in proj's home"
    command = clone_command(record)
    return SnapshotError(
        f"The code of run {run_id} is not stored: {why}",
        context="\n".join(facts) or None,
        hint=f"Get its commit with: {command}" if command else _other_hint(commit),
    )


def _other_hint(commit: str | None) -> str:
    return "Look for the commit in your clones." if commit else "Nothing else is recorded about its code."
