"""Refines a change of files that matters: the changed lines of a file, and the commit that brought the change."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher

from runner.base.tags import COMMIT_TAG
from runner.errors import ProjError
from runner.explanation.differences import Difference
from runner.explanation.search import Result, Search
from runner.explanation.trees import TreeChange
from runner.model import RunRecord
from runner.reproduction.causes import CauseKind
from runner.settings import Home
from runner.source.address import parse_address
from runner.source.gitcommand import GitDirectory, git, run_git
from runner.source.opening import open_source
from runner.source.snapshot_store import read_objects, write_object
from runner.source.summaries import summarise_commit

MOST_LINES = 5000
"""Lines of a file whose changed lines are told apart."""
_REGULAR = ("100644", "100755")
_DELETED = "0" * 6
_Hunk = tuple[str, int, int, int, int]

Test = Callable[[frozenset[Difference]], Result]


def changed_lines(one: Difference, others: frozenset[Difference], test: Test, home: Home) -> str | None:
    """Return which of the changed lines of a file matter, as text; None if they can't be told apart.

    ``others`` are the further differences that matter.
    """
    change = one.changes[0] if len(one.changes) == 1 else None
    texts = None if change is None else _texts(change, home)
    if change is None or texts is None:
        return None
    first, second = texts
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    hunks = [hunk for code in matcher.get_opcodes() if code[0] != "equal" for hunk in _split(code)]
    if len(hunks) < 2:  # noqa: PLR2004
        return None

    def with_hunks(chosen: frozenset[_Hunk]) -> Result:
        if len(chosen) == len(hunks):
            return Result.OTHER
        content = b"".join(_mixed(first, second, [hunk for hunk in hunks if hunk in chosen]))
        identity = write_object(home, "blob", content)
        mixed = TreeChange(path=change.path, mode=change.mode, identity=identity)
        return test(others | {Difference(kind=one.kind, name=one.name, changes=(mixed,))} if chosen else others)

    needed = Search([hunks], with_hunks).minimize()
    ranges = ", ".join(_range(hunk) for hunk in hunks if hunk in needed)
    return f"of {len(hunks)} changed places those that matter are: {ranges}"


def _split(hunk: _Hunk) -> list[_Hunk]:
    """Return the lines of a change one by one if each replaces one line."""
    tag, start, end, other_start, other_end = hunk
    if end - start != other_end - other_start:
        return [hunk]
    return [(tag, start + n, start + n + 1, other_start + n, other_start + n + 1) for n in range(end - start)]


def _texts(change: TreeChange, home: Home) -> tuple[list[bytes], list[bytes]] | None:
    """Return the lines of both contents of a changed text file, None if it is no such file or too long."""
    if change.before is None or change.after is None or change.mode not in _REGULAR:
        return None
    found = read_objects(home, (change.before, change.after))
    contents = [found[identity].data for identity in (change.before, change.after) if identity in found]
    if len(contents) < 2 or any(b"\0" in content for content in contents):  # noqa: PLR2004
        return None
    first, second = (content.splitlines(keepends=True) for content in contents)
    return (first, second) if max(len(first), len(second)) <= MOST_LINES else None


def _mixed(first: Sequence[bytes], second: Sequence[bytes], chosen: Iterable[_Hunk]) -> Iterator[bytes]:
    position = 0
    for _, start, end, other_start, other_end in chosen:
        yield from first[position:start]
        yield from second[other_start:other_end]
        position = end
    yield from first[position:]


def _range(hunk: _Hunk) -> str:
    _, start, end, other_start, other_end = hunk
    if other_start == other_end:
        return f"removed line{'s' * (end - start > 1)} {_span(start, end)}"
    return f"line{'s' * (other_end - other_start > 1)} {_span(other_start, other_end)}"


def _span(start: int, end: int) -> str:
    return f"{start + 1}" if end - start == 1 else f"{start + 1}-{end}"


def first_commit(ends: tuple[RunRecord, RunRecord], found: frozenset[Difference], test: Test, home: Home) -> str | None:
    """Return the commit between two clean runs that brought the changes of files that matter, as text.

    The commits are halved: the run with the files of the returned commit has the results of the other run, and the run
    with those of the commit before it does not. None if the runs are not commits of one line whose repository is here.
    """
    commits = _commits(ends, home)
    code = frozenset(one for one in found if one.changes)
    if commits is None or not code:
        return None
    directory, line = commits
    paths = sorted({change.path for one in code for change in one.changes})
    low, high = -1, len(line) - 1  # the original run is before the first commit; the last commit is the other run
    while high - low > 1:
        middle = (low + high) // 2
        changes = tuple(_changes_at(directory, line[middle], paths, home))
        at_commit = Difference(kind=CauseKind.CODE, name=f"files of commit {line[middle][:12]}", changes=changes)
        if test(found - code | {at_commit}) is Result.OTHER:
            high = middle
        else:
            low = middle
    summary = summarise_commit(directory.git_dir, line[high])
    subject = f" ({summary.subject})" if summary else ""
    return f"since commit {line[high][:12]}{subject}"


def _commits(ends: tuple[RunRecord, RunRecord], home: Home) -> tuple[GitDirectory, list[str]] | None:
    """Return the repository of two clean runs, and the commits after the first one up to the second, oldest first."""
    codes = [one.code for one in ends if one.code is not None and not one.code.dirty and one.tags.get(COMMIT_TAG)]
    project = ends[1].project
    if len(codes) < 2 or project is None:  # noqa: PLR2004
        return None
    try:
        if parse_address(project).path is None:
            return None
        repository = open_source(project, None, home, lambda _event: None).repository
    except ProjError:  # the repository is gone
        return None
    if repository is None:
        return None
    directory = GitDirectory(git_dir=repository)
    words = ("rev-list", "--first-parent", "--reverse", f"{codes[0].commit}..{codes[1].commit}", "--")
    line = run_git(directory, *words).text.split()
    before = run_git(directory, "rev-parse", "--verify", "--quiet", f"{line[0]}^").text if line else ""
    return (directory, line) if before.strip() == codes[0].commit else None


def _changes_at(directory: GitDirectory, commit: str, paths: Sequence[str], home: Home) -> Iterator[TreeChange]:
    """Yield files as a commit has them; their content is stored in the snapshot store."""
    for path in paths:
        listed = git(directory, "--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", path)
        head, _, name = listed.rstrip(b"\0").partition(b"\t")
        mode, kind, identity = head.decode("ascii").split(" ") if head else (_DELETED, "", _DELETED)
        if kind == "blob" and os.fsdecode(name) == path:
            identity = write_object(home, "blob", git(directory, "cat-file", "blob", identity))
            yield TreeChange(path=path, mode=mode, identity=identity)
        else:
            yield TreeChange(path=path, mode=_DELETED, identity="0" * 40)
