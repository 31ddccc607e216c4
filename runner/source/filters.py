"""Disables filter programs that only a repository's own configuration names."""

from runner.errors import GitError
from runner.source.gitcommand import GitDirectory, Settings, git

_OWN = frozenset((b"local", b"worktree"))
_USERS = frozenset((b"system", b"global", b"command"))
_PROGRAMS = frozenset(
    (
        *("clean", "smudge", "process", "command", "textconv", "driver", "helper", "program", "cmd", "hookspath"),
        *("fsmonitor", "external", "sshcommand", "askpass", "gitproxy", "pager", "editor", "alternaterefscommand"),
        *("uploadpack", "receivepack", "vcs", "packobjectshook", "difffilter", "required", "event"),
    )
)
"""The last part of setting names that start a program, or that make a program required."""


def trusted_filter_settings(git_directory: GitDirectory) -> Settings:
    """Return settings that keep git from starting programs that a repository's own configuration names.

    A value that the user configured under the same name, such as Git LFS, replaces the repository's value.

    Raises:
        GitError: the configuration can't be read.
    """
    listed = git(git_directory, "config", "--list", "-z", "--show-scope", "--includes").split(b"\0")
    own: set[str] = set()
    users: dict[str, str] = {}
    for scope, entry in zip(listed[::2], listed[1::2], strict=False):
        name, _, value = entry.decode("utf-8", "surrogateescape").partition("\n")
        if name.rpartition(".")[2] not in _PROGRAMS:
            continue
        if scope in _OWN:
            own.add(name)
        elif scope in _USERS:
            users[name] = value
    return tuple((name, users.get(name, _disabled_value(name))) for name in sorted(own))


def _disabled_value(name: str) -> str:
    return "false" if name.endswith((".required", ".fsmonitor")) else ""


def disabled_filters(git_directory: GitDirectory) -> tuple[str, ...]:
    """Return the names of filters that only the repository's own configuration names."""
    try:
        settings = trusted_filter_settings(git_directory)
    except GitError:
        return ()
    names = {name.removeprefix("filter.").rpartition(".")[0] for name, value in settings if _is_filter(name, value)}
    return tuple(sorted(names))


def _is_filter(name: str, value: str) -> bool:
    return name.startswith("filter.") and name.endswith((".clean", ".process")) and not value
