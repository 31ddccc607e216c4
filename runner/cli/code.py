"""Whether the code of a run can be had back, and where it is otherwise."""

from shlex import quote

from runner.cli.output import clean
from runner.errors import SnapshotError
from runner.model import RunRecord
from runner.settings import Home
from runner.source.snapshot_store import has_run_commit
from runner.store.database import Database
from runner.store.import_writer import ORIGIN_TAG
from runner.store.records import read_record

_COMMIT_TAG = "mlflow.source.git.commit"
_REMOTE_TAG = "mlflow.source.git.repoURL"


def require_code(database: Database, home: Home, run_id: str) -> None:
    """Refuse what needs the code of a run that the snapshot store does not have.

    Raises:
        SnapshotError: it does not; what is known of the code is said.
    """
    if not has_run_commit(home, run_id):
        raise _absent(read_record(database, run_id, home))


def elsewhere(record: RunRecord) -> str | None:
    """Return the commands that bring a run's commit from its remote, as far as both are known."""
    commit, remote = _commit(record), _remote(record)
    if not commit or not remote:
        return None
    return f"git clone {quote(clean(remote))} DIR && git -C DIR checkout {quote(clean(commit))}"


def _commit(record: RunRecord) -> str | None:
    return (record.code.commit if record.code else None) or record.tags.get(_COMMIT_TAG)


def _remote(record: RunRecord) -> str | None:
    return (record.code.remote if record.code else None) or record.tags.get(_REMOTE_TAG)


def _absent(record: RunRecord) -> SnapshotError:
    run_id, commit = (record.run_id or "")[:8], _commit(record)
    facts = [f"commit {clean(commit)}"] if commit else []
    if record.code is not None:
        facts.append(f"tree {record.code.tree}")
        if record.code.dirty:
            facts.append(f"{len(record.code.changed_files)} files differed from the commit, and are not in it")
    if ORIGIN_TAG in record.tags:
        why = "it came from another store, which has a description of the code at most"
    elif record.code is None:
        why = "it was logged by a client, not started by `proj run`"
    else:
        why = "the snapshot store has lost it"
    where = elsewhere(record)
    return SnapshotError(
        f"The code of the run {run_id} is not here: {why}",
        context="\n".join(facts) or None,
        hint=f"Its commit is had with: {where}" if where else _other_hint(commit),
    )


def _other_hint(commit: str | None) -> str:
    return "Look for the commit in your clones." if commit else "Nothing else is known of its code."
