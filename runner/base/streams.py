"""Opens standard streams that the caller closed."""

import os


def fill_standard_descriptors() -> None:
    """Open the closed ones of the descriptors 0, 1 and 2 on the null device.

    Otherwise the next opened file gets the number, and child processes and libraries print to it, for example to a
    database. Python's own streams stay None, because nobody reads them.
    """
    for descriptor in (0, 1, 2):
        if not _is_open(descriptor):
            # `open` returns the lowest free number, and those below are in use.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
