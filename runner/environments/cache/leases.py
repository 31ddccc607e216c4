"""Leases: a process says that it uses an environment, and nobody removes that meanwhile.

A lease is a shared lock on a file; the system takes it back when the process ends, however it ends.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEASES = "leases"
ENDING = ".lease"


class _Held:
    """The leases of this process: an open file for each, and how many times it was asked for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files: dict[Path, tuple[int, int]] = {}
        self._for_good: set[Path] = set()

    def take(self, path: Path) -> None:
        with self._guard:
            descriptor, count = self._files.get(path, (-1, 0))
            if not count:
                descriptor = _open(path)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._files[path] = descriptor, count + 1

    def give_back(self, path: Path) -> None:
        with self._guard:
            descriptor, count = self._files.pop(path)
            if count > 1:
                self._files[path] = descriptor, count - 1
            else:
                os.close(descriptor)

    def keep(self, path: Path) -> None:
        if path not in self._for_good:
            self.take(path)
            self._for_good.add(path)


_HELD = _Held()


def hold(environments: Path, name: str) -> None:
    """Hold an environment by its short name until this process ends; wait while it is being removed."""
    _HELD.keep(_place(environments, name))


def hold_attempt(folder: Path, attempt: str) -> None:
    """Hold one build of an environment until `release_attempt`, else until this process ends."""
    _HELD.take(folder / f"{attempt}{ENDING}")


def release_attempt(folder: Path, attempt: str) -> None:
    """Give a lease of `hold_attempt` back; others that this process has of the same build stay."""
    _HELD.give_back(folder / f"{attempt}{ENDING}")


@contextmanager
def held(environments: Path, name: str) -> Iterator[None]:
    """Hold an environment while the block runs; wait first while it is being removed."""
    path = _place(environments, name)
    try:
        _HELD.take(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        yield  # nobody can remove anything there
        return
    try:
        yield
    finally:
        _HELD.give_back(path)


@contextmanager
def alone(environments: Path, name: str) -> Iterator[bool]:
    """Keep everybody else from using an environment while the block runs; False when somebody uses it already."""
    with _exclusive(_place(environments, name)) as is_alone:
        yield is_alone


@contextmanager
def alone_with_attempt(folder: Path, attempt: str) -> Iterator[bool]:
    """Keep everybody else from using one build while the block runs; False when somebody uses it already."""
    with _exclusive(folder / f"{attempt}{ENDING}") as is_alone:
        yield is_alone


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_alone = False
    else:
        is_alone = True
    try:
        yield is_alone
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _place(environments: Path, name: str) -> Path:
    # Beside the environments and not in them: whoever waits for one that is removed waits on a file that stays.
    return environments / LEASES / name
