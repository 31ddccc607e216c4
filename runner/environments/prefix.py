"""Keeps prefixes by identity: built once, whole or not at all, proven before each use.

A prefix can't be moved, as scripts in it hold its path, so nothing is renamed into place. Each attempt has a folder of
its own that is never used again, and the marker, written last and at once, names the attempt that counts. Whoever is
killed leaves a folder that no marker names; even an installer that outlives its parent writes where nobody looks.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.environments.exclusive import exclusive
from runner.environments.inventory import Damage, Distribution, Inventory, Measure, compare, measure, take
from runner.environments.leases import hold
from runner.environments.words import Fill
from runner.model import Event, EventKind, Report
from runner.settings import Home

SHORT = 16
"""Hex digits of an identity in a path; longer ones would not fit the first line of a script."""
KEPT_SECONDS = 86400
"""How long a replaced prefix stays for runs that still use it."""


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


class Blueprint(Struct, frozen=True, kw_only=True):
    """How to build a prefix; ``forget`` takes damaged packages out of the installer's cache.

    ``lock`` is kept beside the prefix for whoever wants to know what it was built from.
    """

    identity: str
    manager: str
    what: str
    lock: str = ""
    fill: Fill
    forget: Callable[[tuple[str, ...]], None]
    shares_files: Callable[[], bool] | None = None


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

    def obtain(self, blueprint: Blueprint) -> Built:
        """Return the prefix of an identity, proven; build it when it is not there or not as it was."""
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
        prefix = folder / marker.attempt
        try:
            proven = measure(prefix) == marker.measure
        except FileNotFoundError:
            return None
        return _built(folder, marker) if proven else None

    def _thorough(self, folder: Path, blueprint: Blueprint) -> Built | Damage:
        """Look again under the lock: built meanwhile by another, or merely touched, or damaged, or not there."""
        built = self._quick(folder, blueprint.identity)
        marker = read_marker(folder)
        if built:
            return built
        if marker is None or marker.identity != blueprint.identity:
            return Damage()
        prefix = folder / marker.attempt
        inventory = read_inventory(folder, marker.attempt)
        before = measure(prefix) if prefix.is_dir() else None
        damage = Damage(changed=(marker.attempt,))
        if before and inventory:
            damage, fresh = compare(prefix, inventory)
            if not damage:
                _write(folder / f"{marker.attempt}.inventory", msgspec.msgpack.encode(fresh))
                write_marker(folder, msgspec.structs.replace(marker, measure=before))
                return _built(folder, marker)
        (folder / MARKER).unlink()
        self._say(
            EventKind.WARNING,
            f"The environment is not as it was built ({damage.describe()}); it is built again",
            hint="Packages that a run needs belong into the environment file, not into a finished environment.",
        )
        return damage

    def _build(self, folder: Path, blueprint: Blueprint, *, trust: bool) -> Built:
        sweep(folder)
        started = time.monotonic()
        attempt, inventory = self._attempt(folder, blueprint, trust=trust)
        if inventory.wrong:
            # The installer's cache may be what was changed; a fresh copy settles whether the package itself is wrong.
            blueprint.forget(inventory.wrong)
            _remove(folder / attempt)
            attempt, inventory = self._attempt(folder, blueprint, trust=False)
            self._tell_wrong(inventory)
        marker = Marker(
            identity=blueprint.identity,
            attempt=attempt,
            measure=measure(folder / attempt),
            digest=inventory.digest,
            distributions=inventory.distributions,
            manager=blueprint.manager,
        )
        _write(folder / f"{attempt}.inventory", msgspec.msgpack.encode(inventory))
        if blueprint.lock:
            _write(folder / LOCK, blueprint.lock.encode())
        write_marker(folder, marker)
        seconds = time.monotonic() - started
        count = len(inventory.distributions)
        self._say(EventKind.STEP, f"Built {blueprint.what}: {count} package{'s' * (count != 1)} in {seconds:.1f} s")
        return _built(folder, marker)

    def _attempt(self, folder: Path, blueprint: Blueprint, *, trust: bool) -> tuple[str, Inventory]:
        attempt = os.urandom(3).hex()
        prefix = folder / attempt
        prefix.mkdir(parents=True)
        try:
            blueprint.fill(prefix)
            proofs = self._home.environments / "proofs" if blueprint.shares_files and blueprint.shares_files() else None
            return attempt, take(prefix, proofs, trust=trust)
        except BaseException:
            _remove(prefix)
            raise

    def _tell_wrong(self, inventory: Inventory) -> None:
        if inventory.wrong:
            names = ", ".join(inventory.wrong)
            self._say(EventKind.WARNING, f"Files of {names} differ from what their own RECORD says, as published")

    def _waiting(self) -> None:
        self._say(EventKind.NOTICE, "Another command is building this environment; waiting for it")

    def _say(self, kind: EventKind, message: str, hint: str | None = None) -> None:
        self._report(Event(kind=kind, message=message, hint=hint))


MARKER = "environment.json"
LOCK = "lock.txt"


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder, None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write the marker at once and durably."""
    _write(folder / MARKER, msgspec.json.encode(marker))


def sweep(folder: Path) -> None:
    """Remove what killed builds left, and what was replaced a while ago. The caller holds the folder's lock."""
    for child in folder.iterdir() if folder.is_dir() else ():
        if not child.is_dir():
            continue
        sealed = folder / f"{child.name}.inventory"
        if not sealed.exists() or time.time() - sealed.stat().st_mtime > KEPT_SECONDS:
            _remove(child)
            sealed.unlink(missing_ok=True)


def _built(folder: Path, marker: Marker) -> Built:
    with contextlib.suppress(OSError):
        os.utime(folder)  # when it was last used
    return Built(path=folder / marker.attempt, digest=marker.digest, distributions=marker.distributions)


def read_inventory(folder: Path, attempt: str) -> Inventory | None:
    """Return what an attempt was proven to hold, None where that can't be read."""
    try:
        return msgspec.msgpack.decode((folder / f"{attempt}.inventory").read_bytes(), type=Inventory)
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
