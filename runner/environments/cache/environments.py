"""Lists, verifies and removes the environments in the cache."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError
from runner.base.files import remove_tree
from runner.base.locks import is_held, locked
from runner.environments.cache.checksums import lost_permission
from runner.environments.cache.file_manifest import Damage, FileChecksum, FileManifest, build_manifest
from runner.environments.cache.leases import exclusive_lease, leased
from runner.environments.cache.lock_files import check_lock, has_checksum
from runner.environments.cache.prefix import (
    LOCK,
    MARKER,
    SHORT,
    Marker,
    load_file_manifest,
    load_marker,
    read_marker,
    remove_stale_builds,
)
from runner.errors import EnvironmentSetupError
from runner.settings import Home

VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", re.MULTILINE)
NAME = re.compile(rf"[0-9a-f]{{{SHORT}}}")


class CachedEnvironment(Struct, frozen=True, kw_only=True):
    """A prefix, or an image that was built here: the stable JSON of ``proj env list --json``.

    ``size`` is the bytes of its files, ``own_size`` of those that no other prefix and no cache shares. ``last_used`` is
    in seconds since 1970. ``python`` is None for a prefix with only the project's own packages. ``is_whole`` is false
    for the remains of a build that was stopped. ``runs`` are the ids of the runs that used it.
    """

    name: str
    path: str
    manager: str | None = None
    python: str | None = None
    digest: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    size: int = 0
    own_size: int = 0
    last_used: float = 0.0
    is_whole: bool = False
    runs: tuple[str, ...] = ()


class Verification(Struct, frozen=True, kw_only=True):
    """The result of a full check of a prefix; ``differing`` are packages whose files differ from their RECORD."""

    name: str
    damage: Damage
    differing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every file has the checksum that it had after the build."""
        return not self.damage


def cached_environments(home: Home) -> tuple[CachedEnvironment, ...]:
    """Return the prefixes, the last used first, without those that are removed at the same time."""
    found = [environment for folder in _folders(home) if (environment := _describe(folder))]
    return tuple(sorted(found, key=lambda environment: -environment.last_used))


def find_prefix(home: Home, reference: str) -> CachedEnvironment:
    """Return the prefix whose name begins with a word.

    Raises:
        EnvironmentSetupError: no name or several names begin with it.
    """
    found = [folder for folder in _folders(home) if folder.name.startswith(reference)]
    if len(found) != 1:
        problem = (
            f"{len(found)} environments have names that begin with"
            if found
            else "No environment has a name that begins with"
        )
        raise EnvironmentSetupError(f"{problem} '{reference}'", hint="List them with 'proj env list'.")
    environment = _describe(found[0])
    if environment is None:
        raise EnvironmentSetupError(f"The environment {found[0].name} was removed by another command")
    return environment


def lock_of(home: Home, environment: CachedEnvironment) -> str:
    """Return the lock from which a prefix was built.

    Raises:
        EnvironmentSetupError: the lock was not stored, or is damaged.
    """
    try:
        data = (home.environments / environment.name / LOCK).read_bytes()
        if has_checksum(data):
            check_lock(home.environments / environment.name / LOCK, data, None)
        return data.decode()
    except (DamagedFileError, UnicodeDecodeError) as error:
        raise EnvironmentSetupError(
            f"The stored lock of the environment {environment.name} is damaged: {error}",
            hint="Export the lock of a run that used it: 'proj env export RUN'.",
        ) from None
    except FileNotFoundError:
        raise EnvironmentSetupError(
            f"The environment {environment.name} has no stored lock",
            hint="Export the lock of a run that used it: 'proj env export RUN'.",
        ) from None


def verify(home: Home, environment: CachedEnvironment) -> Verification | None:
    """Compare every file of a prefix with the checksums of its build and with the RECORDs.

    The prefix is leased meanwhile. Returns None if it was removed before, if nothing was built in its folder, or if it
    is being built now.
    """
    with leased(home.environments, environment.name):
        return _verify(home.environments / environment.name)


def _verify(folder: Path) -> Verification | None:
    if not folder.is_dir():
        return None
    try:
        marker = load_marker(folder)
        known = load_file_manifest(folder, marker.attempt)
        now = build_manifest(folder / marker.attempt)
    except FileNotFoundError:
        is_nothing = not (folder / MARKER).exists() and not any(child.is_dir() for child in folder.iterdir())
        if is_nothing or is_held(folder / "lock"):
            return None
        return Verification(name=folder.name, damage=Damage(changed=("its build was not finished",)))
    except DamagedFileError as error:
        return Verification(name=folder.name, damage=Damage(changed=(f"{error.path.name}: {error.problem}",)))
    except EnvironmentSetupError as error:
        return Verification(name=folder.name, damage=Damage(changed=(error.message,)))
    return Verification(name=folder.name, damage=_compare(known, now), differing=now.wrong)


def schedule_rebuild(home: Home, environment: CachedEnvironment) -> None:
    """Make the next run build a prefix again; runs that use it keep it until they end."""
    folder = home.environments / environment.name
    with leased(home.environments, environment.name), locked(folder / "lock"):
        verification = _verify(folder)  # another command may have built it again
        if verification is None or not verification.is_whole:
            (folder / MARKER).unlink(missing_ok=True)
            remove_stale_builds(folder)


def _compare(known: FileManifest, now: FileManifest) -> Damage:
    before = {entry.path: entry for entry in known.files}
    after = {entry.path: entry for entry in now.files}
    changed = tuple(path for path, entry in sorted(before.items()) if not _is_like(entry, after.get(path)))
    return Damage(changed=changed, added=tuple(sorted(after.keys() - before.keys())))


def _is_like(entry: FileChecksum, now: FileChecksum | None) -> bool:
    return now is not None and now.sha256 == entry.sha256 and not lost_permission(entry.mode, now.mode)


def choose_to_prune(
    prefixes: tuple[CachedEnvironment, ...], before: float | None, keep: int | None
) -> tuple[CachedEnvironment, ...]:
    """Return the prefixes to remove: those not used since a time, then the longest unused until the rest fits."""
    chosen = [environment for environment in prefixes if before is not None and environment.last_used < before]
    rest = [environment for environment in prefixes if environment not in chosen]
    while keep is not None and rest and sum(environment.size for environment in rest) > keep:
        chosen.append(rest.pop())
    return tuple(chosen)


def prune(home: Home, environment: CachedEnvironment) -> int | None:
    """Remove a prefix and return the number of bytes freed; None if a process uses it."""
    folder = home.environments / environment.name
    with exclusive_lease(home.environments, environment.name) as is_alone:
        if not is_alone:
            return None
        # Without its marker no command uses it, even if the removal is interrupted.
        (folder / MARKER).unlink(missing_ok=True)
        remove_tree(folder)
    return environment.own_size


def _folders(home: Home) -> Iterator[Path]:
    if home.environments.is_dir():
        names = sorted(home.environments.iterdir())
        yield from (folder for folder in names if NAME.fullmatch(folder.name) and folder.is_dir())


def _describe(folder: Path) -> CachedEnvironment | None:
    """Return the prefix in a folder, None if it is removed at the same time."""
    marker = read_marker(folder)
    size, own = _size(folder)
    try:
        last_used = folder.stat().st_mtime
    except FileNotFoundError:
        return None
    if marker is None:
        return CachedEnvironment(name=folder.name, path=str(folder), size=size, own_size=own, last_used=last_used)
    prefix = folder / marker.attempt
    return CachedEnvironment(
        name=folder.name,
        path=str(prefix),
        manager=marker.manager,
        python=_python(prefix, marker),
        digest=marker.digest,
        packages=tuple(sorted((item.name, item.version) for item in marker.distributions)),
        size=size,
        own_size=own,
        last_used=last_used,
        is_whole=prefix.is_dir(),
    )


def _python(prefix: Path, marker: Marker) -> str | None:
    try:
        match = VERSION.search((prefix / "pyvenv.cfg").read_text("utf-8"))
    except FileNotFoundError:
        return next((item.version for item in marker.distributions if item.name == "python"), None)
    return match[1] if match else None


def disk_use(*folders: Path) -> tuple[int, ...]:
    """Return the bytes of the files in each folder; a file in several folders counts for the first."""
    seen: set[tuple[int, int]] = set()
    found = []
    for folder in folders:
        total = 0
        for status in _walk(folder):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
        found.append(total)
    return tuple(found)


def _walk(folder: Path) -> Iterator[os.stat_result]:
    """Yield the status of all files below a folder, without those that are removed at the same time."""
    pending = [str(folder)]
    while pending:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False)


def _size(folder: Path) -> tuple[int, int]:
    """Return the bytes of all files, and of those without another hard link."""
    size = own = 0
    for status in _walk(folder):
        size += status.st_size
        own += status.st_size if status.st_nlink == 1 else 0
    return size, own


def with_runs(environment: CachedEnvironment, used: dict[str, tuple[str, ...]]) -> CachedEnvironment:
    """Return a prefix with the runs that used it; the keys of ``used`` are the recorded paths of prefixes."""
    if environment.path in used:
        return msgspec.structs.replace(environment, runs=used[environment.path])
    folder = str(Path(environment.path) if not environment.is_whole else Path(environment.path).parent)
    runs = [run for path, ids in used.items() if path.startswith(folder) for run in ids]
    return msgspec.structs.replace(environment, runs=tuple(runs))
