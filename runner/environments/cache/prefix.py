"""Keeps prefixes by identity: built once, whole or not at all, proven before each use.

A prefix can't be moved, as scripts in it hold its path, so nothing is renamed into place. Each attempt has a folder of
its own that is never used again, and the marker, written last and at once, names the attempt that counts. Whoever is
killed leaves a folder that no marker names; even an installer that outlives its parent writes where nobody looks.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.files import locked, remove_tree, write_atomically
from runner.base.locks import exclusive
from runner.environments.cache.checksums import SharedFiles, Source
from runner.environments.cache.file_manifest import Damage, FileManifest, Measure, compare, measure, take
from runner.environments.cache.installed import Distribution
from runner.environments.cache.leases import ENDING, alone_with_attempt, hold, hold_attempt, release_attempt
from runner.environments.model import Fill
from runner.model import Event, EventKind, Report
from runner.settings import Home

SHORT = 16
"""Hex digits of an identity in a path; longer ones would not fit the first line of a script."""


class Marker(Struct, frozen=True, kw_only=True):
    """The file that says that a prefix is whole: which attempt, what is in it, how it looked when it was proven."""

    identity: str
    attempt: str
    measure: Measure
    digest: str
    distributions: tuple[Distribution, ...]
    manager: str


class Built(Struct, frozen=True, kw_only=True):
    """A proven prefix."""

    path: Path
    digest: str
    distributions: tuple[Distribution, ...]


class BuildPlan(Struct, frozen=True, kw_only=True):
    """How to build a prefix; ``forget`` takes damaged packages out of the installer's cache.

    ``lock`` is kept beside the prefix for whoever wants to know what it was built from. ``sources`` are the packages in
    the installer's cache to which the prefix may get hard links; None where it gets none.
    """

    identity: str
    manager: str
    what: str
    lock: str = ""
    fill: Fill
    forget: Callable[[tuple[str, ...]], None]
    sources: Callable[[], Iterable[Source] | None] | None = None


def folder_of(home: Home, identity: str) -> Path:
    """Return the folder of an identity."""
    return home.environments / identity[:SHORT]


def has_marker(home: Home, identity: str) -> bool:
    """Say whether an identity was built once; whether it still is as it was is not looked at."""
    return (folder_of(home, identity) / MARKER).exists()


class Prefixes:
    """The prefixes in proj's home."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home, self._report = home, report

    def folder(self, identity: str) -> Path:
        """Return the folder of an identity: its marker, its lock, its log, its attempts."""
        return folder_of(self._home, identity)

    def obtain(self, blueprint: BuildPlan) -> Built:
        """Return the prefix of an identity, proven; build it when it is not there or not as it was.

        Nobody removes what is returned before this process ends.
        """
        folder = self.folder(blueprint.identity)
        hold(self._home.environments, folder.name)
        built = self._quick(folder, blueprint.identity)
        if built:
            return built
        with exclusive(folder / "lock", self._waiting):
            found = self._thorough(folder, blueprint)
            return found if isinstance(found, Built) else self._build(folder, blueprint, trust=not found)

    def _quick(self, folder: Path, identity: str) -> Built | None:
        marker = read_marker(folder)
        if marker is None or marker.identity != identity:
            return None
        hold_attempt(folder, marker.attempt)
        try:
            proven = measure(folder / marker.attempt) == marker.measure
        except OSError:
            proven = False
        if not proven:
            release_attempt(folder, marker.attempt)
        return _built(folder, marker) if proven else None

    def _thorough(self, folder: Path, blueprint: BuildPlan) -> Built | Damage:
        """Look again under the lock: built meanwhile by another, or merely touched, or damaged, or not there."""
        built = self._quick(folder, blueprint.identity)
        if built:
            return built
        try:
            marker, inventory = load_marker(folder), None
            if marker.identity != blueprint.identity:
                return Damage()
            inventory = load_inventory(folder, marker.attempt)
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
                damage, fresh = compare(prefix, inventory, self._shared(prefix))
                if not damage:
                    hold_attempt(folder, marker.attempt)
                    return _built(folder, _renew(folder, marker, fresh))
        (folder / MARKER).unlink()
        self._say(
            EventKind.WARNING,
            f"The environment is not as it was built ({damage.describe()}); it is built again",
            hint="Packages that a run needs belong into the environment file, not into a finished environment.",
        )
        return damage

    def _build(self, folder: Path, blueprint: BuildPlan, *, trust: bool) -> Built:
        sweep(folder)
        started = time.monotonic()
        attempt, inventory = self._attempt(folder, blueprint, trust=trust)
        if inventory.wrong:
            # The installer's cache may be what was changed; a fresh copy settles whether the package itself is wrong.
            with locked(self._home.root / "cache" / CACHE_LOCK):
                blueprint.forget(inventory.wrong)
            remove_tree(folder / attempt)
            attempt, inventory = self._attempt(folder, blueprint, trust=False)
            self._tell_wrong(inventory)
        marker = Marker(
            identity=blueprint.identity,
            attempt=attempt,
            measure=inventory.measure,
            digest=inventory.digest,
            distributions=inventory.distributions,
            manager=blueprint.manager,
        )
        hold_attempt(folder, attempt)
        # The marker alone is waited for: what the power takes of the others shows, and costs a build.
        write_checksummed(folder / f"{attempt}.inventory", msgspec.msgpack.encode(inventory))
        if blueprint.lock:
            write_atomically(folder / LOCK, blueprint.lock.encode())
        write_marker(folder, marker)
        seconds = time.monotonic() - started
        count = len(inventory.distributions)
        self._say(EventKind.STEP, f"Built {blueprint.what}: {count} package{'s' * (count != 1)} in {seconds:.1f} s")
        return _built(folder, marker)

    def _attempt(self, folder: Path, blueprint: BuildPlan, *, trust: bool) -> tuple[str, FileManifest]:
        attempt = os.urandom(3).hex()
        prefix = folder / attempt
        prefix.mkdir(parents=True)
        try:
            sources = blueprint.sources() if blueprint.sources else None
            shared = None if sources is None else self._shared(prefix)
            # Whoever takes damaged packages out of the cache waits until nobody installs from it.
            with locked(self._home.root / "cache" / CACHE_LOCK, shared=True):
                if shared and sources is not None and trust:
                    shared.expect(sources)
                blueprint.fill(prefix)
            (prefix / ".lock").unlink(missing_ok=True)  # uv's, of the installation
            return attempt, take(prefix, shared)
        except BaseException:
            remove_tree(prefix)
            raise

    def _shared(self, prefix: Path) -> SharedFiles:
        return SharedFiles(self._home.root / "cache" / CHECKSUMS, prefix.stat().st_dev)

    def _tell_wrong(self, inventory: FileManifest) -> None:
        if inventory.wrong:
            names = ", ".join(inventory.wrong)
            self._say(EventKind.WARNING, f"Files of {names} differ from what their own RECORD says, as published")

    def _waiting(self) -> None:
        self._say(EventKind.NOTICE, "Another command is building this environment; waiting for it")

    def _say(self, kind: EventKind, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=kind, message=message, hint=hint))


MARKER = "environment.json"
LOCK = "lock.txt"
CHECKSUMS = "checksums"
CACHE_LOCK = "installing.lock"
"""In the home's cache: shared by those who install from it, held alone by those who take something out of it."""


def load_marker(folder: Path) -> Marker:
    """Return the marker of a folder.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: it is not as it was written.
    """
    try:
        return msgspec.json.decode(read_checksummed(folder / MARKER), type=Marker)
    except msgspec.DecodeError as error:
        raise DamagedFileError(folder / MARKER, str(error)) from error


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder, None where there is none that can be read."""
    try:
        return load_marker(folder)
    except (OSError, DamagedFileError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write the marker at once and durably."""
    write_checksummed(folder / MARKER, msgspec.json.encode(marker), durable=True)


def sweep(folder: Path) -> None:
    """Remove what killed builds left, and builds that were replaced and that nobody uses any more.

    The caller holds the folder's lock, and no marker names a build.
    """
    for child in list(folder.iterdir()) if folder.is_dir() else ():
        if not child.is_dir():
            continue
        with alone_with_attempt(folder, child.name) as is_alone:
            if is_alone:
                remove_tree(child)
                for ending in (".inventory", ENDING):
                    (folder / f"{child.name}{ending}").unlink(missing_ok=True)


def _renew(folder: Path, marker: Marker, inventory: FileManifest) -> Marker:
    """Write down how a prefix looks that was proven again; lost with the power, it is proven once more."""
    renewed = msgspec.structs.replace(marker, measure=inventory.measure)
    with contextlib.suppress(OSError):  # on a full disk it is proven again the next time
        write_checksummed(folder / f"{marker.attempt}.inventory", msgspec.msgpack.encode(inventory))
        write_checksummed(folder / MARKER, msgspec.json.encode(renewed))
    return renewed


def _built(folder: Path, marker: Marker) -> Built:
    with contextlib.suppress(OSError):
        os.utime(folder)  # when it was last used
    return Built(path=folder / marker.attempt, digest=marker.digest, distributions=marker.distributions)


def load_inventory(folder: Path, attempt: str) -> FileManifest:
    """Return what an attempt was proven to hold.

    Raises:
        FileNotFoundError: that was not written down.
        DamagedFileError: it is not as it was written.
    """
    path = folder / f"{attempt}.inventory"
    try:
        return msgspec.msgpack.decode(read_checksummed(path), type=FileManifest)
    except msgspec.DecodeError as error:
        raise DamagedFileError(path, str(error)) from error
