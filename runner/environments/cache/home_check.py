"""Verifies the environments and locks in proj's home and repairs them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from runner.base.checksummed_files import DamagedFileError, read_checksummed
from runner.base.files import remove_tree
from runner.base.findings import Finding, Progress
from runner.environments.cache.environments import cached_environments, schedule_rebuild, verify
from runner.environments.cache.lock_files import check_lock, has_checksum, read_lock_file
from runner.settings import Home

LOCK, ENVIRONMENT = "lock", "environment"
RESOLVED_AGAIN = "removed; the next run resolves again"


def verify_locks(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Yield damaged locks and files beside them; with ``repair`` they are removed.

    The locks of runs are checked too. They belong to the record of a run and are never removed.
    """
    files = [(path, check) for path in _entries(home.locks) if (check := _check_of(path))]
    files += [(path, _check_copy) for path in sorted((home.root / "runs").glob("*/*lock.*")) if path.is_file()]
    interpreters = home.root / "interpreters.json"
    files += [(interpreters, _check_sealed)] if interpreters.exists() else []
    for number, (path, check) in enumerate(files, 1):
        problem = _problem(path, check)
        if problem:
            done = _remove(path) if repair and check is not _check_copy else None
            yield Finding(part=LOCK, name=path.relative_to(home.root).as_posix(), problem=problem, repair=done)
        progress(number, len(files))


def verify_environments(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Yield environments with changed files; every file is read.

    With ``repair`` the next run builds them again; runs that use one keep it.
    """
    prefixes = cached_environments(home)
    for number, environment in enumerate(prefixes, 1):
        verification = verify(home, environment)
        if verification and not verification.is_whole:
            if repair:
                schedule_rebuild(home, environment)
            done = "disabled; the next run builds it again" if repair else None
            yield Finding(part=ENVIRONMENT, name=environment.name, problem=verification.damage.describe(), repair=done)
        progress(number, len(prefixes))


def _problem(path: Path, check: Callable[[Path], object]) -> str | None:
    try:
        check(path)
    except FileNotFoundError:
        return None  # removed by another command
    except DamagedFileError as damage:
        return damage.problem
    return None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _check_of(path: Path) -> Callable[[Path], object] | None:
    """Return the check for a file beside the locks, None for logs and temporary files."""
    if path.name.endswith((".txt", ".conda-lock.yml")):
        return read_lock_file
    return _check_sealed if path.name.endswith((".read", ".repaired.json")) else None


def _check_sealed(path: Path) -> None:
    read_checksummed(path)


def _check_copy(path: Path) -> None:
    """Check the lock of a run; only locks that proj resolved contain a checksum."""
    data = path.read_bytes()
    if has_checksum(data):
        check_lock(path, data, None)


def _remove(path: Path) -> str:
    remove_tree(path)
    return RESOLVED_AGAIN
