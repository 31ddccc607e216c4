"""Starts the process that reads and writes ``conda-lock.yml`` with conda-lock's models."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct

from runner.environments.resolve.conda.lockfile import CondaLock
from runner.environments.resolve.conda.worker_process import run_worker
from runner.errors import EnvironmentSetupError
from runner.urls import without_channel_credentials

WORKER = "runner.environments.resolve.conda.lock_worker"


class ReadLock(Struct, frozen=True, kw_only=True, tag="read"):
    """A request to read a file for a platform; ``path`` is for messages."""

    text: str
    path: str
    platform: str


class WriteLock(Struct, frozen=True, kw_only=True, tag="write"):
    """A request to write a file of the locks of several platforms; ``sources`` are the files that were resolved."""

    locks: tuple[CondaLock, ...]
    sources: tuple[str, ...]
    with_addresses: bool


class LockRead(Struct, frozen=True, kw_only=True, tag="lock"):
    """The packages for a platform."""

    lock: CondaLock


class LockWritten(Struct, frozen=True, kw_only=True, tag="text"):
    """The text of a new file, and the locks as they are read from it."""

    text: str
    locks: tuple[CondaLock, ...]


class LockFailure(Struct, frozen=True, kw_only=True, tag="failure"):
    """The reason why a file can't be read or written."""

    message: str


LockTask = ReadLock | WriteLock
LockResult = LockRead | LockWritten | LockFailure


def is_installed() -> bool:
    """Return whether conda-lock is installed, without importing it."""
    return importlib.util.find_spec("conda_lock") is not None


def require_conda_lock(action: str) -> None:
    """Check that conda-lock is installed; ``action`` is what can't be done without it.

    Raises:
        EnvironmentSetupError: it is not installed.
    """
    if not is_installed():
        raise EnvironmentSetupError(
            f"{action}: conda-lock is not installed", hint="Install it: pip install 'proj-runner[conda]'"
        )


class LockFiles(Struct, frozen=True, kw_only=True):
    """Reads and writes files of conda-lock; ``environ`` is the environment of the user."""

    environ: Mapping[str, str]

    def read(self, text: str, path: str, platform: str) -> CondaLock:
        """Return the packages that a file has for a platform.

        Raises:
            EnvironmentSetupError: conda-lock is not installed, the text is not in its format, or it has no packages
                for the platform.
        """
        require_conda_lock(f"{path} can't be read")
        result = self._ask(ReadLock(text=text, path=_encodable(path), platform=platform), path)
        if isinstance(result, LockRead):
            return result.lock
        raise _refused(result, path)

    def write(self, locks: Sequence[CondaLock], sources: Sequence[str], *, with_addresses: bool) -> LockWritten:
        """Return the locks of several platforms as one file.

        Without addresses, files of the Python index are given by name only, so that the index is not recorded.

        Raises:
            EnvironmentSetupError: conda-lock is not installed or fails.
        """
        require_conda_lock("The lock can't be written")
        task = WriteLock(locks=tuple(locks), sources=tuple(map(_encodable, sources)), with_addresses=with_addresses)
        result = self._ask(task, "the new lock")
        if isinstance(result, LockWritten):
            return result
        raise _refused(result, "the new lock")

    def _ask(self, task: LockTask, path: str) -> LockResult:
        with TemporaryDirectory(prefix="proj-") as folder:
            done = run_worker(WORKER, msgspec.msgpack.encode(task), self.environ, Path(folder))
        try:
            result: LockResult = msgspec.msgpack.decode(done.stdout, type=LockResult)
        except msgspec.DecodeError:
            lines = without_channel_credentials(done.error_text).strip().splitlines()
            reason = lines[-1] if lines else f"it ended with {done.exit_code}"
            return LockFailure(message=f"conda-lock failed on {path}: {reason}")
        return result


def _encodable(path: str) -> str:
    """Return a path with a question mark for each byte that is not UTF-8."""
    return path.encode("utf-8", "replace").decode()


def _refused(result: LockResult, path: str) -> EnvironmentSetupError:
    message = result.message if isinstance(result, LockFailure) else f"conda-lock gave no answer for {path}"
    return EnvironmentSetupError(message, context=path)
