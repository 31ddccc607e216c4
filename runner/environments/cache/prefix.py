"""Builds prefixes once per identity and verifies them before each use.

A prefix can't be moved because its scripts contain its path, so no build is renamed into place. Each attempt has a new
folder, and the marker, which is written atomically and last, names the attempt that counts. A killed build leaves a
folder that no marker names; an installer that outlives its parent writes only into such a folder.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.durations import format_duration
from runner.base.files import remove_tree, write_atomically
from runner.base.locks import locked
from runner.base.plurals import counted
from runner.environments.cache.checksums import CachedPackage, SharedFiles
from runner.environments.cache.file_manifest import Damage, FileManifest, Measure, build_manifest, compare, measure
from runner.environments.cache.installed import Distribution
from runner.environments.cache.leases import (
    ENDING,
    exclusive_attempt_lease,
    lease_attempt,
    lease_until_exit,
    release_attempt,
)
from runner.environments.model import BuildFunction
from runner.model import Event, EventKind, Report
from runner.settings import Home

SHORT = 16
"""Hex digits of an identity in a path; with more, the first line of a script (``#!``) gets too long."""


class Marker(Struct, frozen=True, kw_only=True):
    """The file that marks a prefix as complete: the attempt, its packages, and its file status after verification."""

    identity: str
    attempt: str
    measure: Measure
    digest: str
    distributions: tuple[Distribution, ...]
    manager: str


class Built(Struct, frozen=True, kw_only=True):
    """A verified prefix."""

    path: Path
    digest: str
    distributions: tuple[Distribution, ...]


class BuildPlan(Struct, frozen=True, kw_only=True):
    """How to build a prefix.

    ``build`` fills an empty folder. ``evict`` removes damaged packages from the installer's cache. ``lock`` is stored
    beside the prefix for users. ``sources`` returns the packages in the installer's cache to which the prefix may get
    hard links, None if it gets none.
    """

    identity: str
    manager: str
    description: str
    lock: str = ""
    build: BuildFunction
    evict: Callable[[tuple[str, ...]], None]
    sources: Callable[[], Iterable[CachedPackage] | None] | None = None


def environment_folder(home: Home, identity: str) -> Path:
    """Return the folder of an identity."""
    return home.environments / identity[:SHORT]


def has_marker(home: Home, identity: str) -> bool:
    """Return whether an identity was built, without verifying it."""
    return (environment_folder(home, identity) / MARKER).exists()


class Prefixes:
    """The prefixes in proj's home."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home, self._report = home, report

    def folder(self, identity: str) -> Path:
        """Return the folder of an identity, with its marker, lock, log and attempts."""
        return environment_folder(self._home, identity)

    def obtain(self, plan: BuildPlan) -> Built:
        """Return the verified prefix of an identity; build it if it is missing or was changed.

        The prefix stays leased until this process ends.
        """
        folder = self.folder(plan.identity)
        lease_until_exit(self._home.environments, folder.name)
        built = self._find_unchanged(folder, plan.identity)
        if built:
            return built
        with locked(folder / "lock", waiting=self._report_waiting):
            found = self._find_verified(folder, plan)
            return found if isinstance(found, Built) else self._build(folder, plan, trust=not found)

    def _find_unchanged(self, folder: Path, identity: str) -> Built | None:
        marker = read_marker(folder)
        if marker is None or marker.identity != identity:
            return None
        lease_attempt(folder, marker.attempt)
        try:
            is_unchanged = measure(folder / marker.attempt) == marker.measure
        except OSError:
            is_unchanged = False
        if not is_unchanged:
            release_attempt(folder, marker.attempt)
        return _built(folder, marker) if is_unchanged else None

    def _find_verified(self, folder: Path, plan: BuildPlan) -> Built | Damage:
        """Check again under the lock: the prefix was built meanwhile, only touched, damaged, or is missing."""
        built = self._find_unchanged(folder, plan.identity)
        if built:
            return built
        try:
            marker, manifest = load_marker(folder), None
            if marker.identity != plan.identity:
                return Damage()
            manifest = load_file_manifest(folder, marker.attempt)
        except FileNotFoundError as absent:
            if not (folder / MARKER).exists():
                return Damage()
            damage = Damage(changed=(Path(absent.filename).name,))
        except DamagedFileError as error:
            damage = Damage(changed=(error.path.name,))
        else:
            prefix = folder / marker.attempt
            damage = Damage(changed=(marker.attempt,))
            if prefix.is_dir():
                damage, fresh = compare(prefix, manifest, self._shared(prefix))
                if not damage:
                    lease_attempt(folder, marker.attempt)
                    return _built(folder, _update_stored(folder, marker, fresh))
        (folder / MARKER).unlink()
        self._notify(
            EventKind.WARNING,
            f"Files of the environment changed after its build ({damage.describe()}); it is built again",
            hint="Add packages that a run needs to the environment file; do not install them into the environment.",
        )
        return damage

    def _build(self, folder: Path, plan: BuildPlan, *, trust: bool) -> Built:
        remove_stale_builds(folder)
        started = time.monotonic()
        attempt, manifest = self._build_attempt(folder, plan, trust=trust)
        if manifest.wrong:
            # The installer's cache may be damaged; a fresh download shows whether the package itself is wrong.
            with locked(self._home.root / "cache" / CACHE_LOCK):
                plan.evict(manifest.wrong)
            remove_tree(folder / attempt)
            attempt, manifest = self._build_attempt(folder, plan, trust=False)
            self._warn_of_mismatches(manifest)
        marker = Marker(
            identity=plan.identity,
            attempt=attempt,
            measure=manifest.measure,
            digest=manifest.digest,
            distributions=manifest.distributions,
            manager=plan.manager,
        )
        lease_attempt(folder, attempt)
        # Only the marker is flushed to disk: if a power loss damages the other files, that is detected and rebuilt.
        write_checksummed(folder / f"{attempt}.inventory", msgspec.msgpack.encode(manifest))
        if plan.lock:
            write_atomically(folder / LOCK, plan.lock.encode())
        write_marker(folder, marker)
        took = format_duration(time.monotonic() - started)
        count = len(manifest.distributions)
        self._notify(EventKind.STEP, f"Built {plan.description}: {counted(count, 'package')} in {took}")
        return _built(folder, marker)

    def _build_attempt(self, folder: Path, plan: BuildPlan, *, trust: bool) -> tuple[str, FileManifest]:
        attempt = os.urandom(3).hex()
        prefix = folder / attempt
        prefix.mkdir(parents=True)
        try:
            sources = plan.sources() if plan.sources else None
            shared = None if sources is None else self._shared(prefix)
            # Evicting damaged packages from the cache waits until no process installs from it.
            with locked(self._home.root / "cache" / CACHE_LOCK, shared=True):
                if shared and sources is not None and trust:
                    shared.note_unchanged(sources)
                plan.build(prefix)
            (prefix / ".lock").unlink(missing_ok=True)  # uv's lock of the installation
            return attempt, build_manifest(prefix, shared)
        except BaseException:
            remove_tree(prefix)
            raise

    def _shared(self, prefix: Path) -> SharedFiles:
        return SharedFiles(self._home.root / "cache" / CHECKSUMS, prefix.stat().st_dev)

    def _warn_of_mismatches(self, manifest: FileManifest) -> None:
        if manifest.wrong:
            names = ", ".join(manifest.wrong)
            self._notify(EventKind.WARNING, f"Files of {names} differ from their RECORD, as published on the index")

    def _report_waiting(self) -> None:
        self._notify(EventKind.NOTICE, "Waiting for another command that builds this environment")

    def _notify(self, kind: EventKind, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=kind, message=message, hint=hint))


MARKER = "environment.json"
LOCK = "lock.txt"
CHECKSUMS = "checksums"
CACHE_LOCK = "installing.lock"
"""A file in the home's cache: locked shared by installations, locked exclusively to remove packages."""


def load_marker(folder: Path) -> Marker:
    """Return the marker of a folder.

    Raises:
        FileNotFoundError: there is no marker.
        DamagedFileError: its content does not match its checksum.
    """
    try:
        return msgspec.json.decode(read_checksummed(folder / MARKER), type=Marker)
    except msgspec.DecodeError as error:
        raise DamagedFileError(folder / MARKER, str(error)) from error


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder, None if there is none or it is damaged."""
    try:
        return load_marker(folder)
    except (OSError, DamagedFileError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write the marker atomically and durably."""
    write_checksummed(folder / MARKER, msgspec.json.encode(marker), durable=True)


def remove_stale_builds(folder: Path) -> None:
    """Remove builds that were killed, and builds that were replaced and that no process uses.

    The caller holds the folder's lock, and no marker names a build.
    """
    for child in list(folder.iterdir()) if folder.is_dir() else ():
        if not child.is_dir() or _is_without_lease(folder, child.name):
            continue
        with exclusive_attempt_lease(folder, child.name) as is_alone:
            if is_alone:
                remove_tree(child)
                for ending in (".inventory", ENDING):
                    (folder / f"{child.name}{ending}").unlink(missing_ok=True)


def _is_without_lease(folder: Path, attempt: str) -> bool:
    """Return whether an earlier version of proj, which leases only the whole environment, completed a build."""
    # A run of that version may use it. `proj env prune` removes it with the environment as soon as none does.
    return (folder / f"{attempt}.inventory").exists() and not (folder / f"{attempt}{ENDING}").exists()


def _update_stored(folder: Path, marker: Marker, manifest: FileManifest) -> Marker:
    """Store the new file status of a prefix that was verified; if a power loss undoes this, it is verified again."""
    renewed = msgspec.structs.replace(marker, measure=manifest.measure)
    with contextlib.suppress(OSError):  # on a full disk it is verified again the next time
        write_checksummed(folder / f"{marker.attempt}.inventory", msgspec.msgpack.encode(manifest))
        write_checksummed(folder / MARKER, msgspec.json.encode(renewed))
    return renewed


def _built(folder: Path, marker: Marker) -> Built:
    with contextlib.suppress(OSError):
        os.utime(folder)  # the time of last use
    return Built(path=folder / marker.attempt, digest=marker.digest, distributions=marker.distributions)


def load_file_manifest(folder: Path, attempt: str) -> FileManifest:
    """Return the file manifest of an attempt.

    Raises:
        FileNotFoundError: it was not written.
        DamagedFileError: its content does not match its checksum.
    """
    path = folder / f"{attempt}.inventory"
    try:
        return msgspec.msgpack.decode(read_checksummed(path), type=FileManifest)
    except msgspec.DecodeError as error:
        raise DamagedFileError(path, str(error)) from error
