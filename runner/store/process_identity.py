"""Identifies the process that owns a run, so that other processes can check whether it still exists."""

import os
import platform
from functools import lru_cache
from pathlib import Path

from runner.process import capture
from runner.store.entities import ProcessIdentity

_PROC = Path("/proc/self/stat").exists()
"""Whether /proc exists as on Linux; on other systems `ps` and `sysctl` are used."""


def this_process() -> ProcessIdentity:
    """Return the identity of this process."""
    return ProcessIdentity(
        pid=os.getpid(),
        started=_started(os.getpid()) or "",
        boot=_boot(),
        host=platform.node(),
        space=_space(),
    )


def is_gone(owner: ProcessIdentity) -> bool:
    """Return whether a process has certainly ended; False for a process on another machine or in another container."""
    if owner.host != platform.node():
        return False
    if owner.boot != _boot():
        return True
    if owner.space != _space():
        return False
    return _started(owner.pid) != owner.started


def is_reachable(owner: ProcessIdentity) -> bool:
    """Return whether a process is on this machine and not in another container, so that it can get signals."""
    return owner.host == platform.node() and owner.boot == _boot() and owner.space == _space()


@lru_cache(maxsize=1)
def _boot() -> str:
    """Return the boot id of the machine; empty if unknown."""
    if _PROC:
        return _read("/proc/sys/kernel/random/boot_id").strip()
    return capture(["sysctl", "-n", "kern.boottime"], timeout=10).text.strip()


@lru_cache(maxsize=1)
def _space() -> str:
    """Return the process id namespace, which differs between containers of one machine."""
    if not _PROC:
        return ""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return the start time of a process as the kernel reports it, or None if it has ended.

    On Linux it is field 22 of proc(5), "/proc/[pid]/stat", in clock ticks since boot.
    """
    if not _PROC:
        listed = capture(["ps", "-o", "stat=,lstart=", "-p", str(pid)], timeout=10).text.strip()
        state, _, started = listed.partition(" ")
        return started.strip() if listed and not state.startswith("Z") else None
    # The second field is the program's name in brackets, which may itself contain spaces and brackets.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
