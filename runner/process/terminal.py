"""Who has the terminal: the command leads a process group of its own and gets the terminal when it wants to read.

A command that shared our group would get each Ctrl-C twice, once from the terminal and once from us, and its
``kill 0`` would end us before the record is closed. In a group of its own it is in the background, and the first read
from the terminal stops it with SIGTTIN; then it gets the terminal, as with ``fg`` of a shell.
"""

import os
import signal
from signal import Signals

_WANTS = (Signals.SIGTTIN, Signals.SIGTTOU)


class Terminal:
    """The terminal that controls us, if there is one."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._descriptor = -1
        self.is_lent = False
        """Whether the command has it, and with it Ctrl-C."""

    def lend(self) -> bool:
        """Give the terminal to the command's group; False where we don't have it ourselves."""
        if not self._is_ours():
            return False
        # Writing to it, or taking it back, from the background would stop us.
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
                return  # it has been hung up
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {Signals.SIGTTOU})

    def close(self) -> None:
        """Take the terminal back and let go of it."""
        self.take_back()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def on_stop(self, number: int) -> bool:
        """Do what a shell does when the command was stopped; True when it shall continue."""
        if number in _WANTS and self.lend():
            return True
        if number == Signals.SIGSTOP:
            return False  # somebody stopped it by hand and will continue it by hand
        was_lent = self.is_lent or number in _WANTS
        self.take_back()
        os.kill(0, Signals.SIGSTOP)
        # Here we have been continued.
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
