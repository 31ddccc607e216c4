"""Mirrors that lack files: stored copies of repositories often leave out the largest ones, and all of submodules.

Such a repository can't be fetched or cloned whole. One of the trial's own gets the commit without those files, with the
same author, day and message, so that what does not need them can be tried; the row says how many are lacking.
"""

import os
import subprocess
from pathlib import Path

from msgspec import Struct, structs

from tests.corpus.projects import Project


class Whole(Struct, frozen=True, kw_only=True):
    """A project with a repository that has all files of its commit, and the files that had to be left out for that."""

    project: Project
    mirror: Path
    lacking: tuple[str, ...] = ()


def make_whole(project: Project, mirror: Path, workdir: Path) -> Whole:
    """Return the project as it is where its mirror is whole, else with a commit that can be had."""
    entries = dict(_entries(mirror, project.sha))
    missing = _missing(mirror, sorted(set(entries.values())))
    lacking = tuple(path for path, identity in entries.items() if identity in missing)
    if not lacking:
        return Whole(project=project, mirror=mirror)
    copy = workdir / "mirror.git"
    _git(copy, "init", "--quiet", "--bare", str(copy))
    (copy / "objects" / "info" / "alternates").write_text(f"{mirror}/objects\n", encoding="utf-8")
    commit = _commit_without(copy, project.sha, lacking)
    _git(copy, "update-ref", "refs/heads/main", commit)
    _git(copy, "symbolic-ref", "HEAD", "refs/heads/main")
    return Whole(project=structs.replace(project, sha=commit), mirror=copy, lacking=lacking)


def _entries(mirror: Path, sha: str) -> list[tuple[str, str]]:
    """Return paths and ids of files, and of submodules, whose commits the mirror does not have."""
    lines = _git(mirror, "ls-tree", "-r", "-z", sha).split("\0")[:-1]
    return [(path, words.split()[2]) for words, _, path in (line.partition("\t") for line in lines)]


def _missing(mirror: Path, identities: list[str]) -> frozenset[str]:
    printed = _git(mirror, "cat-file", "--batch-check", stdin="".join(f"{identity}\n" for identity in identities))
    return frozenset(line.split()[0] for line in printed.splitlines() if line.endswith(" missing"))


def _commit_without(copy: Path, sha: str, lacking: tuple[str, ...]) -> str:
    """Make a commit like another one, without some of its files."""
    index = {"GIT_INDEX_FILE": str(copy / "index"), "GIT_WORK_TREE": str(copy)}
    _git(copy, "read-tree", sha, **index)
    _git(copy, "update-index", "--force-remove", "-z", "--stdin", stdin="\0".join((*lacking, "")), **index)
    tree = _git(copy, "write-tree", **index).strip()
    names = ("AUTHOR_NAME", "AUTHOR_EMAIL", "AUTHOR_DATE", "COMMITTER_NAME", "COMMITTER_EMAIL", "COMMITTER_DATE")
    values = _git(copy, "show", "-s", "--format=%an%n%ae%n%aI%n%cn%n%ce%n%cI", sha).splitlines()
    same = {f"GIT_{name}": value or "nobody" for name, value in zip(names, values, strict=True)}
    message = _git(copy, "show", "-s", "--format=%B", sha)
    return _git(copy, "commit-tree", tree, stdin=message, **same).strip()


def _git(git_dir: Path, *words: str, stdin: str = "", **variables: str) -> str:
    done = subprocess.run(
        ["git", f"--git-dir={git_dir}", *words],
        check=True,
        capture_output=True,
        input=stdin,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, **variables},
    )
    return done.stdout
