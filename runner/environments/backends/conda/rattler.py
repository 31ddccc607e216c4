"""Runs the worker process that solves and installs conda packages, and turns its failures into errors."""

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct

from runner.base.masking import Masker
from runner.environments.resolve.conda.channels import channels_of
from runner.environments.resolve.conda.protocol import (
    Channel,
    CondaPackage,
    Failure,
    Installed,
    InstallTask,
    Result,
    Solved,
    SolveTask,
    Task,
)
from runner.environments.resolve.conda.worker_process import run_worker
from runner.environments.resolve.uv_command import clean_cwd
from runner.errors import EnvironmentSetupError
from runner.settings import Home
from runner.urls import without_channel_credentials

WORKER = "runner.environments.backends.conda.worker"
EXTRA = "py-rattler is not installed: pip install 'proj-runner[conda]'"
HINTS = {
    "unsolvable": "Try a later date ('--as-of DATE' or 'now'), or check names, versions, builds and channels.",
    "unreachable": "Check the network. A channel of your own needs its full address.",
    "refused": "The archive is not the one that the lock was made from: it was changed, or the lock is wrong.",
}


def is_installed() -> bool:
    """Return whether the library is installed, without importing it."""
    return importlib.util.find_spec("rattler") is not None


def is_offline(environ: Mapping[str, str]) -> bool:
    """Return whether the user disabled the network."""
    return any(environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("UV_OFFLINE", "PROJ_OFFLINE"))


class Rattler(Struct, frozen=True, kw_only=True):
    """Solves and installs with the py-rattler library in a separate process.

    Indexes, archives and unpacked packages are stored in the home's cache.
    """

    home: Home
    environ: Mapping[str, str]
    channels: tuple[str, ...]
    platform: str

    @property
    def name(self) -> str:
        """The name of the library."""
        return "rattler"

    @property
    def knows_dates(self) -> bool:
        """True: it can leave out packages that are newer than a date."""
        return True

    def usual_channels(self) -> tuple[str, ...]:
        """Return the names of the default channels."""
        return tuple(channel.name for channel in channels_of((), self.environ))

    @property
    def archives(self) -> Path:
        """The folder of archives, by digest."""
        return self.home.root / "cache" / "conda" / "archives"

    @property
    def unpacked(self) -> Path:
        """The folder of unpacked packages, from which prefixes are linked."""
        return self.home.root / "cache" / "conda" / "packages"

    def solve(self, specs: tuple[str, ...], as_of: str | None, log: Path, *, is_portable: bool = False) -> Solved:
        """Return the packages that satisfy specs; without a network the cached indexes of the channels are used.

        Raises:
            EnvironmentSetupError: there is no solution, or the channels can't be read.
        """
        channels = channels_of(self.channels, self.environ)
        with self._indexes(channels) as cache:
            task = SolveTask(
                channels=channels,
                specs=specs,
                platform=self.platform,
                cache=str(cache),
                as_of=as_of,
                is_portable=is_portable,
            )
            result = self._run_task(msgspec.structs.replace(task, is_offline=is_offline(self.environ)))
            if isinstance(result, Failure) and result.kind == "unreachable":
                again = self._run_task(msgspec.structs.replace(task, is_offline=True))
                result = again if isinstance(again, Solved) else result
        if isinstance(result, Solved):
            return result
        raise _task_error("No set of conda packages satisfies the requirements of the project", result, log)

    def install(self, packages: tuple[CondaPackage, ...], prefix: Path, log: Path) -> Installed:
        """Create a prefix of packages.

        Raises:
            EnvironmentSetupError: an archive can't be downloaded, does not match the lock, or can't be installed.
        """
        missing = self._missing(packages)
        if missing and is_offline(self.environ):
            names = ", ".join(package.file_name for package in missing)
            raise EnvironmentSetupError(f"The network is disabled, and these archives are not on this machine: {names}")
        task = InstallTask(
            channels=channels_of(self.channels, self.environ),
            packages=packages,
            platform=self.platform,
            archives=str(self.archives),
            cache=str(self.unpacked),
            prefix=str(prefix),
        )
        result = self._run_task(task)
        if isinstance(result, Failure) and result.kind == "unlinked":
            shutil.rmtree(prefix)
            prefix.mkdir()
            result = self._run_task(msgspec.structs.replace(task, is_careful=True))
        if isinstance(result, Installed):
            return result
        raise _task_error("The conda packages of the lock can't be installed", result, log)

    def missing(self, packages: tuple[CondaPackage, ...]) -> int:
        """Return the number of archives that are not on this machine."""
        return len(self._missing(packages))

    def evict(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Remove unpacked packages, so that they are unpacked again; return the names of packages that have none."""
        found = set()
        for folder in self.unpacked.glob("*") if self.unpacked.is_dir() else ():
            name = folder.name.rsplit("-", 2)[0]
            if folder.is_dir() and name in names:
                found.add(name)
                shutil.rmtree(folder, ignore_errors=True)
        return tuple(name for name in names if name not in found)

    def _missing(self, packages: tuple[CondaPackage, ...]) -> list[CondaPackage]:
        there = (self.archives / package.digest / package.file_name for package in packages)
        return [package for package, path in zip(packages, there, strict=True) if not path.is_file()]

    @contextmanager
    def _indexes(self, channels: Iterable[Channel]) -> Iterator[Path]:
        """Yield the folder for indexes of channels; those of channels with a secret URL are not kept."""
        if all(without_channel_credentials(channel.address + "/") == channel.address + "/" for channel in channels):
            yield self.home.root / "cache" / "conda" / "indexes"
            return
        with TemporaryDirectory(prefix="proj-") as folder:
            yield Path(folder)

    def _run_task(self, task: Task) -> Result:
        done = run_worker(WORKER, msgspec.json.encode(task), self.environ, clean_cwd(self.home))
        try:
            result: Result = msgspec.json.decode(done.stdout, type=Result)
        except msgspec.DecodeError:
            return Failure(
                kind="broken", message=without_channel_credentials(done.error_text) or f"ended with {done.exit_code}"
            )
        return result


def _task_error(what: str, result: Result, log: Path) -> EnvironmentSetupError:
    failure = result if isinstance(result, Failure) else Failure(kind="broken", message="an answer to another task")
    text = Masker().text(failure.message.strip())
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text + "\n", encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    shown = "\n".join(lines[:MAX_LINES])
    return EnvironmentSetupError(
        f"{what}:\n{shown}", context=f"the whole output is in {log}", hint=HINTS.get(failure.kind)
    )


MAX_LINES = 14
