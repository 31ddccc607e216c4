"""Resolves a version (branch, tag or commit id) to one commit."""

import re

from runner.base.suggestions import near_words
from runner.errors import SourceError, UsageError
from runner.source.checkouts import Commit, read_commit
from runner.source.gitcommand import GitDirectory, run_git

_SHA = re.compile(r"^[0-9a-fA-F]{4,64}$")


def check_version(version: str | None) -> None:
    """Check a version before git uses it.

    Raises:
        UsageError: the text is empty, looks like an option, or has characters that are invalid in a ref.
    """
    if version is None:
        return
    if not version or version.startswith("-") or any(ord(letter) <= 32 or ord(letter) == 127 for letter in version):  # noqa: PLR2004
        raise UsageError(f"{version!r} is not a version", hint="Give a branch, a tag or a commit.")


def find_commit(git_directory: GitDirectory, version: str, shown: str) -> Commit:
    """Return the commit of a branch, a tag, any other ref, or a full or short commit id.

    Raises:
        SourceError: the version does not exist, or a short id matches several commits.
    """
    for name in (version, f"origin/{version}"):
        commit = read_commit(git_directory, name)
        if commit:
            return commit
    done = run_git(git_directory, "rev-parse", "--verify", "--end-of-options", f"{version}^{{commit}}")
    error_output = done.error_text
    if "ambiguous" in error_output:
        raise SourceError(f"'{version}' matches several commits of {shown}", hint="Give more characters of the id.")
    raise SourceError(f"{shown} has no version '{version}'", hint=_near_miss(git_directory, version))


def default_commit(git_directory: GitDirectory, shown: str) -> Commit:
    """Return the commit of the default branch, or of the only branch if HEAD names a missing one.

    Raises:
        SourceError: there is no commit, or there are several branches and no default.
    """
    commit = read_commit(git_directory, "HEAD")
    if commit:
        return commit
    branches = run_git(git_directory, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").lines
    commit = read_commit(git_directory, branches[0]) if len(branches) == 1 else None
    if commit:
        return commit
    if branches:
        raise SourceError(f"{shown} has no default branch", hint="Choose with --version: " + ", ".join(branches[:10]))
    raise SourceError(f"{shown} has no commit yet")


def _near_miss(git_directory: GitDirectory, version: str) -> str:
    listed = run_git(
        git_directory, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes"
    )
    names = [name.removeprefix("origin/") for name in listed.lines]
    close = near_words(version, sorted(set(names)))
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    if _SHA.match(version) and (git_directory.git_dir / "shallow").exists():
        return "The clone is shallow and lacks older commits. Fetch them with `git fetch --unshallow`."
    return "Give a branch, a tag or a commit."


def split_tail(git_directory: GitDirectory, tail: str | None, version: str | None) -> tuple[str | None, str]:
    """Split ``REF/folder`` of a browser URL after the longest ref that the repository has.

    Return the version (None for the default) and the folder.

    Raises:
        UsageError: the address and ``--version`` name different versions.
        SourceError: the repository has no such ref.
    """
    if not tail:
        return version, ""
    parts = [part for part in tail.split("/") if part]
    for count in range(len(parts), 0, -1):
        ref = "/".join(parts[:count])
        if read_commit(git_directory, ref) or read_commit(git_directory, f"origin/{ref}"):
            if version not in (None, ref):
                raise UsageError(f"The address has the version '{ref}', --version '{version}'", hint="Give only one.")
            folder = "/".join(parts[count:])
            if ".." in parts[count:] or ".git" in parts[count:]:
                raise SourceError(f"The folder '{folder}' leads out of the repository")
            return ref, folder
    raise SourceError(f"The repository has no version at the start of '{tail}'")
