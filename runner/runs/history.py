"""Finds the commit that later received the code of a run with uncommitted changes."""

from collections.abc import Iterable

from runner.base.tags import LATER_COMMIT_TAG
from runner.errors import ProjError
from runner.model import RunRecord
from runner.settings import Home
from runner.source.address import parse_address
from runner.source.opening import Source, open_source
from runner.source.restoring import find_tree_in_history, find_trees_in_history
from runner.source.summaries import CommitSummary, summarise_commit


def find_later_commit(record: RunRecord, home: Home) -> str | None:
    """Return the commit with exactly the tree of a dirty run, from its tag or from the repository of the run."""
    code = record.code
    if code is None or not code.dirty or record.project is None or record.run_id is None:
        return None
    known = record.tags.get(LATER_COMMIT_TAG)
    if known:
        return known
    source = _open_again(record, home)
    return find_tree_in_history(code.tree, source) if source else None


def find_later_commits(records: Iterable[RunRecord], home: Home) -> dict[str, str]:
    """Return the commits with exactly the trees of dirty runs, by the runs' ids; each repository is read once."""
    found: dict[str, str] = {}
    by_project: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.code is not None and record.code.dirty and record.project is not None:
            by_project.setdefault(record.project, []).append(record)
    for group in by_project.values():
        source = _open_again(group[0], home)
        commits = find_trees_in_history([one.code.tree for one in group if one.code], source) if source else {}
        found |= {
            one.run_id: commits[one.code.tree] for one in group if one.run_id and one.code and one.code.tree in commits
        }
    return found


def describe_commit(record: RunRecord, home: Home) -> CommitSummary | None:
    """Return the summary of a run's commit, or None if the repository is no longer available."""
    source = _open_again(record, home)
    if source is None or source.repository is None or record.code is None or record.code.commit is None:
        return None
    return summarise_commit(source.repository, record.code.commit)


def _open_again(record: RunRecord, home: Home) -> Source | None:
    """Return the source of a run if it is a local folder that still exists; nothing is fetched."""
    try:
        if record.project is None or parse_address(record.project).path is None:
            return None
        return open_source(record.project, None, home, lambda _event: None)
    except ProjError:  # the repository is gone or moved: its commits can't be read
        return None
