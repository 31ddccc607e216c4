"""Gives the terminal to the command when the command reads from it, and takes it back.

The command leads a process group of its own. In proj's group it would get each Ctrl-C twice, from the terminal and from
proj, and its ``kill 0`` would end proj before the record is closed. In its own group it is in the background: the first
read from the terminal stops it with SIGTTIN, and proj then gives it the terminal, as ``fg`` of a shell does.
"""

import os
import signal
from signal import Signals

_ACCESS_SIGNALS = (Signals.SIGTTIN, Signals.SIGTTOU)


class Terminal:
    """The controlling terminal of proj, if there is one."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._descriptor = -1
        self.is_lent = False
        """Whether the command has the terminal, and so gets Ctrl-C."""

    def lend(self) -> bool:
        """Give the terminal to the command's group; return False if proj does not have it."""
        if not self._is_ours():
            return False
        # Writing to the terminal, or taking it back, from the background would stop proj.
        signal.pthread_sigmask(signal.SIG_BLOCK, {Signals.SIGTTOU})
        os.tcsetpgrp(self._descriptor, self._group)
        self.is_lent = True
        return True

    def take_back(self) -> None:
        """Take the terminal back from the command."""
        if self.is_lent:
            self.is_lent = False
            try:
                os.tcsetpgrp(self._descriptor, os.getpgrp())
            except OSError:
                return  # the terminal was closed
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {Signals.SIGTTOU})

    def close(self) -> None:
        """Take the terminal back and close it."""
        self.take_back()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def on_stop(self, number: int) -> bool:
        """Handle the stop of the command as a shell does; return True if the command is to continue."""
        if number in _ACCESS_SIGNALS and self.lend():
            return True
        if number == Signals.SIGSTOP:
            return False  # the user stopped it by hand and continues it by hand
        was_lent = self.is_lent or number in _ACCESS_SIGNALS
        self.take_back()
        os.kill(0, Signals.SIGSTOP)
        # SIGCONT has continued proj here.
        if was_lent:
            self.lend()
        return True

    def _is_ours(self) -> bool:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False
