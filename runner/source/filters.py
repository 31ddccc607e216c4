"""Programs that git starts for files: only those that the user or the system configured, never a repository's own."""

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
"""The last part of settings that name a program, or force one to be used."""


def only_users_filters(place: GitDirectory) -> Settings:
    """Return settings under which git starts no program that a repository's own configuration names.

    What the user configured under the same name, as Git LFS is, counts again.

    Raises:
        GitError: the configuration can't be read.
    """
    listed = git(place, "config", "--list", "-z", "--show-scope", "--includes").split(b"\0")
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
    return tuple((name, users.get(name, _nothing(name))) for name in sorted(own))


def _nothing(name: str) -> str:
    return "false" if name.endswith((".required", ".fsmonitor")) else ""


def unused_filters(place: GitDirectory) -> tuple[str, ...]:
    """Return the filters that a repository's own configuration names, and nothing else does."""
    try:
        settings = only_users_filters(place)
    except GitError:
        return ()
    names = {name.removeprefix("filter.").rpartition(".")[0] for name, value in settings if _is_filter(name, value)}
    return tuple(sorted(names))


def _is_filter(name: str, value: str) -> bool:
    return name.startswith("filter.") and name.endswith((".clean", ".process")) and not value
