"""A commit in words for a person: what its author says it does, who that is, and when it was made."""

import os
from pathlib import Path

from msgspec import Struct


class CommitSummary(Struct, frozen=True, kw_only=True):
    """The first line of a commit's message, its author's name, and the day on which it was made."""

    subject: str
    author: str
    day: str


def summarise_commit(repository: Path, commit: str) -> CommitSummary | None:
    """Return what a commit says of itself, or None where the repository or the commit is not there any more."""
    import git as gitpython  # 70 ms to import, so only `proj show` does
    from gitdb.exc import BadName

    try:
        with gitpython.Repo(repository) as opened:
            # Without these, variables of a git hook that proj was called from would lead to another repository.
            opened.git.update_environment(
                GIT_DIR=str(opened.git_dir), GIT_OPTIONAL_LOCKS="0", GIT_CONFIG_GLOBAL=os.devnull
            )
            found = opened.commit(commit)
            return CommitSummary(
                subject=str(found.summary),
                author=found.author.name or "",
                day=found.committed_datetime.date().isoformat(),
            )
    except (gitpython.GitError, BadName, ValueError, OSError):
        return None
