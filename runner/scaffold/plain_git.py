"""Runs git for templates: without hooks, without an inherited repository, with a default identity."""

import os
from collections.abc import Mapping
from pathlib import Path

from runner.errors import ScaffoldError
from runner.process import capture

REPOSITORY_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)
"""Variables that git sets for hooks and aliases; with them, commands would act on the caller's repository."""

_TIME_LIMIT = 600.0
"""Seconds after which git is stopped."""

NEUTRAL_IDENTITY = {"name": "proj", "email": "proj@example.invalid"}


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without variables that select a repository, plus ``extra`` variables."""
    plain = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    return {**plain, **(extra or {})}


def git(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Run git in a folder, without hooks, and return what it printed.

    Raises:
        ScaffoldError: git failed.
    """
    argv = ("git", "-c", f"core.hooksPath={os.devnull}", *arguments)
    done = capture(argv, cwd=folder, env=plain_environment(variables), timeout=_TIME_LIMIT)
    if done.exit_code:
        raise ScaffoldError(f"git {arguments[0]} failed in {folder}", context=done.error_text)
    return done.text


def is_in_repository(folder: Path) -> bool:
    """Return whether a folder is in the work tree of a git repository."""
    arguments = ("git", "rev-parse", "--show-toplevel")
    return capture(arguments, cwd=folder, env=plain_environment(), timeout=_TIME_LIMIT).exit_code == 0


def start_repository(folder: Path, message: str) -> str:
    """Make a git repository of a folder with one commit of all its files; return the commit's short id.

    The author is the user, or a neutral one where git knows none.
    """
    branch = () if _setting(folder, "init.defaultBranch") else ("--initial-branch=main",)
    git(folder, "init", "--quiet", *branch)
    git(folder, "add", "--all")
    variables = {}
    for field, neutral in NEUTRAL_IDENTITY.items():
        for role in ("AUTHOR", "COMMITTER"):
            variable = f"GIT_{role}_{field.upper()}"
            if variable not in os.environ and not _setting(folder, f"user.{field}"):
                variables[variable] = neutral
    git(folder, "commit", "--quiet", "--no-gpg-sign", f"--message={message}", variables=variables)
    return git(folder, "rev-parse", "--short", "HEAD")


def _setting(folder: Path, name: str) -> str:
    return capture(("git", "config", "--get", name), cwd=folder, env=plain_environment(), timeout=_TIME_LIMIT).text
