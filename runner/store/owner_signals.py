"""Sends signals to the process that owns a run."""

import os
import signal
from contextlib import suppress
from signal import Signals

from runner.store.entities import ProcessIdentity
from runner.store.process_identity import is_gone, is_reachable


def signal_owner(owner: ProcessIdentity, number: Signals) -> bool:
    """Send a signal to a process; return False if it has ended or is not on this machine.

    Raises:
        PermissionError: the process belongs to another user.
    """
    if not is_reachable(owner):
        return False
    if not hasattr(os, "pidfd_open"):
        return _kill(owner, number)
    try:
        descriptor = os.pidfd_open(owner.pid)
    except OSError:  # the process has ended, or the kernel is older than 5.3
        return _kill(owner, number)
    try:
        # The id may belong to a new process by now; the descriptor stays with the process that is checked here.
        if is_gone(owner):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
            return True
    finally:
        os.close(descriptor)
    return False


def _kill(owner: ProcessIdentity, number: Signals) -> bool:
    if is_gone(owner):
        return False
    with suppress(ProcessLookupError):
        os.kill(owner.pid, number)
        return True
    return False
