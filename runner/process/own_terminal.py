"""A pseudo-terminal for the output of a command, so that programs show colours and progress bars; see pty(7)."""

import fcntl
import os
import struct
import sys
import termios
from contextlib import suppress

_DEFAULT = (24, 80, 0, 0)


def open_terminal() -> tuple[int, int]:
    """Return the descriptors of our end and of the command's end of a new pseudo-terminal.

    Raises:
        OSError: the system has no free pseudo-terminal.
    """
    ours, theirs = os.openpty()
    attributes = termios.tcgetattr(theirs)
    # Without this each newline arrives as carriage return and newline.
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    copy_size(ours)
    return ours, theirs


def copy_size(terminal: int) -> None:
    """Give a pseudo-terminal the size of the terminal of stdout."""
    size = struct.pack("HHHH", *_DEFAULT)
    with suppress(OSError, ValueError, AttributeError):
        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, size)
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
