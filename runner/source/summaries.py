"""Summarizes a commit: the first line of its message, its author and its day."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from msgspec import Struct

from runner.errors import ProjError
from runner.source.gitcommand import GitDirectory, run_git

_AUTHOR = re.compile(r"^author (?P<name>.*?) ?<.*> ", re.MULTILINE)
_COMMITTER = re.compile(
    r"^committer .*> (?P<seconds>\d{1,11}) (?P<sign>[+-])(?P<hours>\d\d)(?P<minutes>\d\d)$", re.MULTILINE
)


class CommitSummary(Struct, frozen=True, kw_only=True):
    """The first line of a commit's message, its author's name, and its day."""

    subject: str
    author: str
    day: str


def summarise_commit(repository: Path, commit: str) -> CommitSummary | None:
    """Return the summary of a commit, or None if the repository or the commit no longer exists."""
    if not repository.is_dir():
        return None
    try:
        output = run_git(
            GitDirectory(git_dir=repository), "cat-file", "--batch", stdin=f"{commit}^{{commit}}\n".encode()
        ).stdout
    except ProjError:
        return None
    _, _, body = output.partition(b"\n")
    head, _, message = body.decode("utf-8", "replace").partition("\n\n")
    author, committer = _AUTHOR.search(head), _COMMITTER.search(head)
    if not author or not committer:
        return None
    offset = timedelta(hours=int(committer["hours"]), minutes=int(committer["minutes"]))
    try:
        zone = timezone(-offset if committer["sign"] == "-" else offset)
        day = datetime.fromtimestamp(int(committer["seconds"]), zone).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None
    return CommitSummary(subject=message.split("\n", 1)[0], author=author["name"], day=day)
