"""Who answers for a run: naming a process so that another one, later, can tell whether it is still there."""

import os
import platform
from functools import lru_cache
from pathlib import Path

from runner.process import capture
from runner.store.entities import ProcessIdentity

_PROC = Path("/proc/self/stat").exists()
"""Whether the kernel shows processes as Linux does; elsewhere `ps` and `sysctl` are asked."""


def this_process() -> ProcessIdentity:
    """Return the owner that this process is."""
    return ProcessIdentity(
        pid=os.getpid(),
        started=_started(os.getpid()) or "",
        boot=_boot(),
        host=platform.node(),
        space=_space(),
    )


def is_gone(owner: ProcessIdentity) -> bool:
    """Say whether a process has surely ended; one on another machine or in another container is taken to live."""
    if owner.host != platform.node():
        return False
    if owner.boot != _boot():
        return True
    if owner.space != _space():
        return False
    return _started(owner.pid) != owner.started


@lru_cache(maxsize=1)
def _boot() -> str:
    """Return what names the time since the machine started; empty where the system does not tell."""
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
    """Return when a process started, as the kernel says it, or None when it has ended.

    On Linux it is field 22 of proc(5), "/proc/[pid]/stat", in clock ticks since boot.
    """
    if not _PROC:
        listed = capture(["ps", "-o", "stat=,lstart=", "-p", str(pid)], timeout=10).text.strip()
        state, _, started = listed.partition(" ")
        return started.strip() if listed and not state.startswith("Z") else None
    # The second field is the program's name in brackets, and may have spaces and brackets of its own.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
