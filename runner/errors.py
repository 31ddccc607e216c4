"""Defines the errors that users can act on; any other exception is a bug and shows a traceback."""

import errno
from typing import ClassVar

from runner.urls import without_credentials


class ProjError(Exception):
    """An error that the user can act on: what happened, where, and what to do.

    The command line prints it without a traceback and exits with ``exit_code``. Credentials in URLs are removed.
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
    """The arguments of a command are not valid."""

    reference = "usage"
    exit_code = 2


class ManifestError(ProjError):
    """A manifest, or a file that it names, can't be used."""

    reference = "manifest"


class ParameterError(ProjError):
    """A parameter is missing, is not declared, or has a value that is not allowed."""

    reference = "parameter"


class SourceError(ProjError):
    """The code can't be read or fetched from its source."""

    reference = "source"


class SnapshotError(ProjError):
    """A snapshot can't be taken, checked out or restored."""

    reference = "snapshot"


class GitError(SnapshotError):
    """Git failed unexpectedly: a repository may be damaged."""


class EnvironmentSetupError(ProjError):
    """An environment can't be read, locked, built or verified."""

    reference = "environment"


class AbsentImageError(EnvironmentSetupError):
    """The container image is not available and can't be pulled, and the user did not demand a container."""


class UnbuildableError(EnvironmentSetupError):
    """A locked package has no wheel for the interpreter, and building it from source failed."""


class ExecutionError(ProjError):
    """A command can't be started."""

    reference = "execution"


class HomeError(ProjError):
    """proj's home, the folder of all its data, can't be used."""

    reference = "home"


class SystemRefusalError(ProjError):
    """The operating system refused an operation at a point where proj does not handle it otherwise."""

    reference = "system"


class OutputError(ProjError):
    """The output of a command can't be written."""

    reference = "output"


class StoreError(ProjError):
    """The store refused an operation, or it failed."""

    reference = "store"


class FullDiskError(StoreError):
    """The disk of the store is full."""


class DamagedStoreError(StoreError):
    """The database file of the store is damaged."""


class NotFoundError(StoreError):
    """The store has nothing with this name or id."""

    reference = "not-found"


class AlreadyExistsError(StoreError):
    """The store already has something with this name or id; MLflow's RESOURCE_ALREADY_EXISTS."""

    reference = "already-exists"


class InvalidValueError(StoreError):
    """A name, a value or a query is not valid in the store; MLflow's INVALID_PARAMETER_VALUE."""

    reference = "invalid-value"


class BundleError(ProjError):
    """A bundle can't be written, or is damaged, incomplete or refused."""

    reference = "bundle"


class TransferError(ProjError):
    """The data of another store can't be read or copied."""

    reference = "transfer"


class ServerError(ProjError):
    """The server can't be started with these options."""

    reference = "server"


class RemoteError(ProjError):
    """A request to a tracking server failed.

    ``status`` is the HTTP status, 0 without a response; ``code`` is MLflow's error code, if the response has one.
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
        """Whether the server reports that the requested resource does not exist."""
        return self.code == "RESOURCE_DOES_NOT_EXIST"

    @property
    def is_unknown_endpoint(self) -> bool:
        """Whether the server does not implement the endpoint."""
        return self.status in (404, 405, 501) and not self.is_absent

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 408, 429, *range(500, 600))


class UnreachableError(RemoteError):
    """A tracking server does not respond."""


class ScaffoldError(ProjError):
    """A project can't be created or updated from a template."""

    reference = "scaffold"


_FREE = "Free some space: `proj rm --permanently` removes runs, `proj env prune` removes environments."
_PLACE = "Choose a folder that you can write to; PROJ_HOME sets the folder of proj's data."
_FAULTS = {
    errno.ENOSPC: ("The disk is full", _FREE),
    errno.EDQUOT: ("The disk quota is used up", _FREE),
    errno.EFBIG: ("A file would be larger than is allowed", "Raise the limit: `ulimit -f unlimited`."),
    errno.EROFS: ("The file system is read-only", _PLACE),
    errno.EACCES: ("The permissions of a file or folder forbid this", _PLACE),
    errno.EPERM: ("The operating system does not permit this", _PLACE),
    errno.EMFILE: ("Too many files are open", "Raise the limit: `ulimit -n 1024`."),
    errno.ENFILE: ("Too many files are open on this machine", "Wait until other programs have ended."),
    errno.EIO: ("The disk reported an error", "Check the disk, then run the command again."),
    errno.ENAMETOOLONG: (
        "A path is too long",
        "Choose a shorter path; PROJ_HOME sets the folder of proj's data.",
    ),
    errno.ELOOP: ("A symbolic link refers to itself", "Remove the link, or choose another path."),
    errno.EEXIST: ("Something of another kind has this path already", "Move it away, then run the command again."),
    errno.ENOTDIR: ("A file is in the place of a folder", "Choose another path, or move the file."),
    errno.EISDIR: ("A folder is in the place of a file", "Choose another path, or move the folder."),
    errno.ESTALE: ("The network file system has lost a file", "Run the command again."),
    errno.ENOMEM: ("There is not enough memory", "Close other programs, or raise the limit: `ulimit -v unlimited`."),
    errno.EAGAIN: ("No more processes or threads can be started", "Raise the limit: `ulimit -u`."),
}


def disk_full_error(context: str) -> SystemRefusalError:
    """Return the error for a program of another project that found no space on the disk."""
    message, hint = _FAULTS[errno.ENOSPC]
    return SystemRefusalError(message, context=context, hint=hint)


def explain_system_error(error: OSError) -> SystemRefusalError | None:
    """Return the user's error for an error of the operating system; None if it can only be a bug of proj."""
    if error.errno not in _FAULTS:
        return None
    message, hint = _FAULTS[error.errno]
    named = [repr(name).strip("'") for name in (error.filename, error.filename2) if name]
    return SystemRefusalError(message, context=" → ".join(named) or None, hint=hint)
