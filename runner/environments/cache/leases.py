"""Leases environments to processes, so that no other process removes them meanwhile.

A lease is a shared lock on a file. The system releases it when the process ends, even when it is killed.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.base.locks import open_lock, try_lock, wait_for_lock

LEASES = "leases"
ENDING = ".lease"


class _ProcessLeases:
    """The leases of this process: an open file and a count for each."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files: dict[Path, tuple[int, int]] = {}
        self._until_exit: set[Path] = set()

    def acquire(self, path: Path) -> None:
        with self._guard:
            descriptor, count = self._files.get(path, (-1, 0))
            if not count:
                descriptor = open_lock(path)
                wait_for_lock(descriptor, shared=True)
            self._files[path] = descriptor, count + 1

    def release(self, path: Path) -> None:
        with self._guard:
            descriptor, count = self._files.pop(path)
            if count > 1:
                self._files[path] = descriptor, count - 1
            else:
                os.close(descriptor)

    def keep_across_exec(self) -> None:
        with self._guard:
            for descriptor, _ in self._files.values():
                os.set_inheritable(descriptor, True)

    def acquire_until_exit(self, path: Path) -> None:
        if path not in self._until_exit:
            self.acquire(path)
            self._until_exit.add(path)


_LEASES = _ProcessLeases()


def lease_until_exit(environments: Path, name: str) -> None:
    """Lease an environment by its short name until this process ends; wait while it is being removed."""
    _LEASES.acquire_until_exit(_lease_path(environments, name))


def keep_across_exec() -> None:
    """Let a program that replaces this process, and what it starts, keep all leases of this process."""
    _LEASES.keep_across_exec()


def lease_attempt(folder: Path, attempt: str) -> None:
    """Lease one build of an environment until `release_attempt` or the end of this process."""
    _LEASES.acquire(folder / f"{attempt}{ENDING}")


def release_attempt(folder: Path, attempt: str) -> None:
    """Release a lease of `lease_attempt`; other leases of this process on the same build stay."""
    _LEASES.release(folder / f"{attempt}{ENDING}")


@contextmanager
def leased(environments: Path, name: str) -> Iterator[None]:
    """Lease an environment during the block; wait first while it is being removed."""
    path = _lease_path(environments, name)
    try:
        _LEASES.acquire(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        yield  # on a read-only file system nothing can be removed
        return
    try:
        yield
    finally:
        _LEASES.release(path)


@contextmanager
def exclusive_lease(environments: Path, name: str) -> Iterator[bool]:
    """Keep other processes from leasing an environment during the block; yield False if one has leased it already."""
    with _exclusive(_lease_path(environments, name)) as is_alone:
        yield is_alone


@contextmanager
def exclusive_attempt_lease(folder: Path, attempt: str) -> Iterator[bool]:
    """Keep other processes from leasing one build during the block; yield False if one has leased it already."""
    with _exclusive(folder / f"{attempt}{ENDING}") as is_alone:
        yield is_alone


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    descriptor = open_lock(path)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _lease_path(environments: Path, name: str) -> Path:
    # Beside the environments, not in them, so that the file stays while a process waits for a removal.
    return environments / LEASES / name
