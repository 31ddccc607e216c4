"""The prefixes that are kept: how large, when last used, whether whole; and their removal."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError
from runner.base.files import remove_tree
from runner.base.locks import exclusive, is_held
from runner.environments.cache.file_manifest import Damage, FileManifest, take
from runner.environments.cache.leases import alone, held
from runner.environments.cache.prefix import (
    LOCK,
    MARKER,
    SHORT,
    Marker,
    load_inventory,
    load_marker,
    read_marker,
    sweep,
)
from runner.environments.resolve.lock_files import check_lock, has_checksum
from runner.errors import EnvironmentSetupError
from runner.settings import Home

VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", re.MULTILINE)
NAME = re.compile(rf"[0-9a-f]{{{SHORT}}}")


class CachedEnvironment(Struct, frozen=True, kw_only=True):
    """A prefix, or an image that was built here: the stable JSON of ``proj env list --json``.

    ``size`` is bytes of its files, ``own_size`` of those that no other prefix and no cache shares. ``last_used`` is
    seconds since 1970. ``python`` is None for what holds only the project's own packages. ``is_whole`` is false for
    what a build left that was stopped. ``runs`` used it.
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
    """What a thorough look at a prefix found; ``differing`` are packages whose files are not those of their RECORD."""

    name: str
    damage: Damage
    differing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Say whether every file is as it was proven when it was built."""
        return not self.damage


def cached_environments(home: Home) -> tuple[CachedEnvironment, ...]:
    """Return the prefixes, the last used first; what is removed meanwhile is left out."""
    found = [kept for folder in _folders(home) if (kept := _describe(folder))]
    return tuple(sorted(found, key=lambda kept: -kept.last_used))


def find_prefix(home: Home, word: str) -> CachedEnvironment:
    """Return the prefix whose name begins with a word.

    Raises:
        EnvironmentSetupError: none does, or several do.
    """
    found = [folder for folder in _folders(home) if folder.name.startswith(word)]
    if len(found) != 1:
        told = f"{len(found)} environments have names that begin with" if found else "There is no environment"
        raise EnvironmentSetupError(f"{told} '{word}'", hint="'proj env list' names them.")
    kept = _describe(found[0])
    if kept is None:
        raise EnvironmentSetupError(f"The environment {found[0].name} was removed meanwhile")
    return kept


def lock_of(home: Home, kept: CachedEnvironment) -> str:
    """Return the lock from which a prefix was built.

    Raises:
        EnvironmentSetupError: it was not kept.
    """
    try:
        data = (home.environments / kept.name / LOCK).read_bytes()
        if has_checksum(data):
            check_lock(home.environments / kept.name / LOCK, data, None)
        return data.decode()
    except (DamagedFileError, UnicodeDecodeError) as error:
        raise EnvironmentSetupError(
            f"The lock that is kept with the environment {kept.name} is damaged: {error}",
            hint="Export that of a run that used it: 'proj env export RUN'.",
        ) from None
    except FileNotFoundError:
        raise EnvironmentSetupError(
            f"No lock is kept with the environment {kept.name}",
            hint="Export that of a run that used it: 'proj env export RUN'.",
        ) from None


def verify(home: Home, kept: CachedEnvironment) -> Verification | None:
    """Read every file of a prefix and hold it against what was proven when it was built, and against the RECORDs.

    Nobody removes it meanwhile. Returns None where somebody did before, where nothing was built that could be damaged,
    and while it is being built.
    """
    with held(home.environments, kept.name):
        return _verify(home.environments / kept.name)


def _verify(folder: Path) -> Verification | None:
    if not folder.is_dir():
        return None
    try:
        marker = load_marker(folder)
        known = load_inventory(folder, marker.attempt)
        now = take(folder / marker.attempt)
    except FileNotFoundError:
        is_nothing = not (folder / MARKER).exists() and not any(child.is_dir() for child in folder.iterdir())
        if is_nothing or is_held(folder / "lock"):
            return None
        return Verification(name=folder.name, damage=Damage(changed=("it was never finished",)))
    except DamagedFileError as error:
        return Verification(name=folder.name, damage=Damage(changed=(f"{error.path.name}: {error.problem}",)))
    except EnvironmentSetupError as error:
        return Verification(name=folder.name, damage=Damage(changed=(error.message,)))
    return Verification(name=folder.name, damage=_compare(known, now), differing=now.wrong)


def discard(home: Home, kept: CachedEnvironment) -> None:
    """Have the next run build a prefix again; runs that use it keep it to their end."""
    folder = home.environments / kept.name
    with held(home.environments, kept.name), exclusive(folder / "lock", lambda: None):
        verdict = _verify(folder)  # it may have been built again meanwhile
        if verdict is None or not verdict.is_whole:
            (folder / MARKER).unlink(missing_ok=True)
            sweep(folder)


def _compare(known: FileManifest, now: FileManifest) -> Damage:
    before = {seal.path: seal.sha256 for seal in known.files}
    after = {seal.path: seal.sha256 for seal in now.files}
    changed = tuple(path for path, sha256 in sorted(before.items()) if after.get(path) != sha256)
    return Damage(changed=changed, added=tuple(sorted(after.keys() - before.keys())))


def choose_to_prune(
    prefixes: tuple[CachedEnvironment, ...], before: float | None, keep: int | None
) -> tuple[CachedEnvironment, ...]:
    """Return what is to go: what was last used before a time, and the longest unused until the rest fits in a size."""
    chosen = [kept for kept in prefixes if before is not None and kept.last_used < before]
    rest = [kept for kept in prefixes if kept not in chosen]
    while keep is not None and rest and sum(kept.size for kept in rest) > keep:
        chosen.append(rest.pop())
    return tuple(chosen)


def prune(home: Home, kept: CachedEnvironment) -> int | None:
    """Remove a prefix and return the bytes that frees; None when somebody uses it."""
    folder = home.environments / kept.name
    with alone(home.environments, kept.name) as is_alone:
        if not is_alone:
            return None
        # Without its marker it is no environment any more, whatever stops us from here on.
        (folder / MARKER).unlink(missing_ok=True)
        remove_tree(folder)
    return kept.own_size


def _folders(home: Home) -> Iterator[Path]:
    if home.environments.is_dir():
        names = sorted(home.environments.iterdir())
        yield from (folder for folder in names if NAME.fullmatch(folder.name) and folder.is_dir())


def _describe(folder: Path) -> CachedEnvironment | None:
    """Return what is in a folder, None where it is removed meanwhile."""
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
    """Return the bytes of the files in each folder, each file counted once and where it comes first."""
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
    """Yield the state of all files below a folder but those that are removed meanwhile."""
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
    """Return the bytes of all files, and of those with no other name elsewhere."""
    size = own = 0
    for status in _walk(folder):
        size += status.st_size
        own += status.st_size if status.st_nlink == 1 else 0
    return size, own


def with_runs(kept: CachedEnvironment, used: dict[str, tuple[str, ...]]) -> CachedEnvironment:
    """Return a prefix with the runs that used it; ``used`` has them by the path of the prefix that was recorded."""
    if kept.path in used:
        return msgspec.structs.replace(kept, runs=used[kept.path])
    folder = str(Path(kept.path) if not kept.is_whole else Path(kept.path).parent)
    runs = [run for path, ids in used.items() if path.startswith(folder) for run in ids]
    return msgspec.structs.replace(kept, runs=tuple(runs))
