"""Errors that are meant for the user; anything else that escapes is a bug and shows a traceback."""

import errno
from typing import ClassVar

from runner.urls import without_credentials


class ProjError(Exception):
    """A fault that the user can act on: what happened, where, and what to do.

    The command line prints it without a traceback and exits with ``exit_code``. Credentials in URLs are taken out.
    """

    reference: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, context: str | None = None, hint: str | None = None) -> None:
        message = without_credentials(message)
        super().__init__(message)
        self.message = message
        self.context = without_credentials(context) if context else context
        self.hint = without_credentials(hint) if hint else hint


class UsageError(ProjError):
    """The words of a command do not make sense."""

    reference = "usage"
    exit_code = 2


class ManifestError(ProjError):
    """A manifest, or a file that it names, can't be used."""

    reference = "manifest"


class ParameterError(ProjError):
    """A parameter is missing, unknown to its declaration, or has a refused value."""

    reference = "parameter"


class SourceError(ProjError):
    """Code can't be had from where the user said it is."""

    reference = "source"


class SnapshotError(ProjError):
    """The tree can't be frozen, laid out or restored."""

    reference = "snapshot"


class GitError(SnapshotError):
    """Git failed at what should not fail: something that it works on may be damaged."""


class EnvironmentSetupError(ProjError):
    """An environment can't be declared, locked, built or proven."""

    reference = "environment"


class AbsentImageError(EnvironmentSetupError):
    """The image of a container is not here and can't be fetched, and nothing says that it must be exactly that one."""


class UnbuildableError(EnvironmentSetupError):
    """A package of a lock has no wheel for the interpreter, and its source can't be built with it."""


class ExecutionError(ProjError):
    """A command can't be started."""

    reference = "execution"


class HomeError(ProjError):
    """The folder that holds everything proj keeps can't be used."""

    reference = "home"


class SystemRefusalError(ProjError):
    """The operating system refuses something that no part of proj expects it to refuse."""

    reference = "system"


class OutputError(ProjError):
    """What a command prints can't be written."""

    reference = "output"


class StoreError(ProjError):
    """The store refuses or can't do what is asked."""

    reference = "store"


class NoRoomError(StoreError):
    """The disk that the store is on is full."""


class DamagedStoreError(StoreError):
    """The file of the store is not as SQLite wrote it."""


class NotFoundError(StoreError):
    """Nothing in the store has this name or id."""

    reference = "not-found"


class AlreadyExistsError(StoreError):
    """The store has something else of this name or id; MLflow's RESOURCE_ALREADY_EXISTS."""

    reference = "already-exists"


class InvalidValueError(StoreError):
    """A name, a value or a search breaks a rule of the store; MLflow's INVALID_PARAMETER_VALUE."""

    reference = "invalid-value"


class TransferError(ProjError):
    """What another store holds can't be read or taken over."""

    reference = "transfer"


class ServerError(ProjError):
    """The server can't be started as asked."""

    reference = "server"


class RemoteError(ProjError):
    """A remote tracking server does not do what it is asked.

    ``status`` is that of HTTP, 0 where no answer came; ``code`` is MLflow's word for the error, where there is one.
    """

    reference = "remote"

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", context: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, context=context, hint=hint)
        self.status = status
        self.code = code

    @property
    def is_absent(self) -> bool:
        """Whether the server says that what was asked for is not there."""
        return self.code == "RESOURCE_DOES_NOT_EXIST"

    @property
    def is_unknown_endpoint(self) -> bool:
        """Whether the server does not know this part of the protocol."""
        return self.status in (404, 405, 501) and not self.is_absent

    @property
    def is_transient(self) -> bool:
        """Whether it may go well later."""
        return self.status in (0, 408, 429, *range(500, 600))


class UnreachableError(RemoteError):
    """A remote tracking server gives no answer."""


class ScaffoldError(ProjError):
    """A project can't be made from a template."""

    reference = "scaffold"


_FREE = "Free some space: `proj rm` and `proj env prune` free what proj keeps."
_PLACE = "Choose a place that you can write to; PROJ_HOME says where proj keeps its own."
_FAULTS = {
    errno.ENOSPC: ("The disk is full", _FREE),
    errno.EDQUOT: ("The disk quota is used up", _FREE),
    errno.EFBIG: ("A file would be larger than is allowed", "Raise the limit: `ulimit -f unlimited`."),
    errno.EROFS: ("The file system is read-only", _PLACE),
    errno.EACCES: ("The permissions of a file or folder forbid this", _PLACE),
    errno.EPERM: ("The system forbids this", _PLACE),
    errno.EMFILE: ("Too many files are open", "Raise the limit: `ulimit -n 1024`."),
    errno.ENFILE: ("Too many files are open on this machine", "Wait until other programs have ended."),
    errno.EIO: ("The disk reported an error", "Check the disk, then run the command again."),
    errno.ENAMETOOLONG: (
        "A path is too long",
        "Choose a place with a shorter path; PROJ_HOME says where proj keeps its own.",
    ),
    errno.ELOOP: ("A symbolic link leads to itself", "Remove the link, or choose another place."),
    errno.ENOTDIR: ("Something that should be a folder is a file", "Choose another place, or move the file away."),
    errno.EISDIR: ("Something that should be a file is a folder", "Choose another place, or move the folder away."),
    errno.ESTALE: ("The network file system has lost a file", "Run the command again."),
    errno.ENOMEM: ("There is not enough memory", "Close other programs, or raise the limit: `ulimit -v unlimited`."),
    errno.EAGAIN: ("No further process or thread can be started", "Raise the limit: `ulimit -u`."),
}


def explain_system_error(error: OSError) -> SystemRefusalError | None:
    """Return the error for the user for what the system refused; None where only a bug of ours explains it."""
    if error.errno not in _FAULTS:
        return None
    message, hint = _FAULTS[error.errno]
    named = [repr(name).strip("'") for name in (error.filename, error.filename2) if name]
    return SystemRefusalError(message, context=" → ".join(named) or None, hint=hint)
