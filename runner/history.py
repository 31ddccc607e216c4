"""The commit that the code of a dirty run became later."""

from runner.errors import ProjError
from runner.model import RunRecord
from runner.settings import Home
from runner.source.opening import open_source
from runner.source.restoring import find_tree_in_history
from runner.store import values
from runner.store.database import Database

LATER_COMMIT_TAG = "proj.commit"
"""Tag of a dirty run: the commit that has its tree."""


def find_later_commit(record: RunRecord, database: Database, home: Home) -> str | None:
    """Return the commit with exactly the tree of a dirty run, and tag the run with it, so that it stays known."""
    code = record.code
    if code is None or not code.dirty or record.project is None or record.run_id is None:
        return None
    known = record.tags.get(LATER_COMMIT_TAG)
    if known:
        return known
    try:
        source = open_source(record.project, None, home, lambda _event: None)
        commit = find_tree_in_history(code.tree, source)
    except ProjError:  # the repository is gone or moved: nothing can be said about its later commits
        return None
    if commit:
        values.set_tags(database, record.run_id, {LATER_COMMIT_TAG: commit})
    return commit
