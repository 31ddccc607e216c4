"""Says of a prefix that it is in use, so that nobody removes it; the system takes that back when the process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HELD: dict[Path, int] = {}
"""One open file for each prefix that this process was given; it is never closed, as a run may use it to the end."""


def hold(environments: Path, name: str) -> None:
    """Hold a prefix by its short name until this process ends; wait while it is being removed."""
    path = _place(environments, name)
    if path in _HELD:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _HELD[path] = descriptor


@contextmanager
def alone(environments: Path, name: str) -> Iterator[bool]:
    """Keep everybody else from using a prefix while the block runs; False when somebody uses it already."""
    path = _place(environments, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _place(environments: Path, name: str) -> Path:
    # Beside the prefixes and not in them: whoever waits for one that is removed waits on a file that stays.
    return environments / LEASES / name


LEASES = "leases"
