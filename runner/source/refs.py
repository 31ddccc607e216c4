"""From the words for a version to one commit."""

import re

from runner.errors import SourceError, UsageError
from runner.source.checkouts import Commit, read_commit
from runner.source.gitcommand import GitDirectory, run_git

_SHA = re.compile(r"^[0-9a-fA-F]{4,64}$")


def check_version(version: str | None) -> None:
    """Refuse what is no name of a version before git sees it.

    Raises:
        UsageError: the text is empty, looks like an option, or has characters that no ref may have.
    """
    if version is None:
        return
    if not version or version.startswith("-") or any(ord(letter) <= 32 or ord(letter) == 127 for letter in version):  # noqa: PLR2004
        raise UsageError(f"{version!r} is not a version", hint="Give a branch, a tag or a commit.")


def find_commit(place: GitDirectory, version: str, shown: str) -> Commit:
    """Return the commit that a branch, a tag, any other ref or a commit id (short ones too) means.

    Raises:
        SourceError: there is no such version, or a short id fits several commits.
    """
    for name in (version, f"origin/{version}"):
        commit = read_commit(place, name)
        if commit:
            return commit
    complaint = run_git(place, "rev-parse", "--verify", "--end-of-options", f"{version}^{{commit}}").error_text
    if "ambiguous" in complaint:
        raise SourceError(f"'{version}' fits several commits of {shown}", hint="Give more characters of the id.")
    raise SourceError(f"{shown} has no version '{version}'", hint=_near_miss(place, version))


def default_commit(place: GitDirectory, shown: str) -> Commit:
    """Return the commit of the default branch; of the only branch where HEAD names one that is not there.

    Raises:
        SourceError: there is no commit, or several branches to choose from.
    """
    commit = read_commit(place, "HEAD")
    if commit:
        return commit
    branches = run_git(place, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").text.splitlines()
    commit = read_commit(place, branches[0]) if len(branches) == 1 else None
    if commit:
        return commit
    if branches:
        raise SourceError(f"{shown} has no default branch", hint="Choose with --version: " + ", ".join(branches[:10]))
    raise SourceError(f"{shown} has no commit yet")


def _near_miss(place: GitDirectory, version: str) -> str:
    import difflib

    listed = run_git(place, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes")
    names = [name.removeprefix("origin/") for name in listed.text.splitlines()]
    close = difflib.get_close_matches(version, sorted(set(names)), n=3)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    if _SHA.match(version) and (place.git_dir / "shallow").exists():
        return "The clone is shallow: its older commits are not here. `git fetch --unshallow` brings them."
    return "Give a branch, a tag or a commit."


def split_tail(place: GitDirectory, tail: str | None, version: str | None) -> tuple[str | None, str]:
    """Part the ``REF/folder`` of a browser's address where the longest ref ends that the repository has.

    Returns the version to use, None for the default, and the folder.

    Raises:
        UsageError: the address names one version and ``--version`` another.
        SourceError: the repository has no such ref.
    """
    if not tail:
        return version, ""
    parts = [part for part in tail.split("/") if part]
    for count in range(len(parts), 0, -1):
        ref = "/".join(parts[:count])
        if read_commit(place, ref) or read_commit(place, f"origin/{ref}"):
            if version not in (None, ref):
                raise UsageError(f"The address names the version '{ref}', --version '{version}'", hint="Give only one.")
            folder = "/".join(parts[count:])
            if ".." in parts[count:] or ".git" in parts[count:]:
                raise SourceError(f"The folder '{folder}' leads out of the repository")
            return ref, folder
    raise SourceError(f"The repository has no version that '{tail}' begins with")
