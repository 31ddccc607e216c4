"""Says whether the kernel can report the files that a command opens."""

import os
import re
import sys
from pathlib import Path

from runner.errors import UsageError

MACHINES = ("x86_64", "aarch64")
"""The architectures whose numbers of calls the tracer knows."""
_OLDEST = (5, 5)
"""The first Linux that lets a reported call go on: SECCOMP_USER_NOTIF_FLAG_CONTINUE of seccomp_unotify(2)."""
_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")


def check_trace(wanted: bool | None, *, traces: bool) -> None:
    """Check that a run can be traced if that is wanted; ``traces`` is a capability of its executor.

    Raises:
        UsageError: it can't.
    """
    reason = why_not_trace(traces=traces) if wanted else None
    if reason:
        raise UsageError(f"--trace is not possible here: {reason}", hint="run without --trace")


def why_not_trace(*, traces: bool) -> str | None:
    """Return the reason why commands can't be traced, None if nothing is known that prevents it."""
    if not traces:
        return "the command runs in a container, whose processes the engine starts"
    if sys.platform != "linux":
        return "only the kernel of Linux reports opened files"
    system = os.uname()
    if system.machine not in MACHINES:
        return f"the numbers of the calls of {system.machine} are not known"
    if tuple(map(int, re.findall(r"\d+", system.release)[:2])) < _OLDEST:
        return f"it needs Linux {'.'.join(map(str, _OLDEST))}, and this is {system.release}"
    try:
        actions = _ACTIONS.read_text("ascii").split()
    except OSError:
        return None  # /proc may be hidden; the kernel refuses the filter if it can't be installed
    return None if "user_notif" in actions else "this kernel has no notifications of seccomp"
