"""Opens standard streams that the caller closed."""

import os


def fill_standard_descriptors() -> None:
    """Open what is closed of the descriptors 0, 1 and 2 on the null device.

    The next file that is opened would get the number else: a database would be taken for a screen by child processes
    and by libraries that print. Python's own streams stay None, which says that nobody reads them.
    """
    for descriptor in (0, 1, 2):
        if not _is_open(descriptor):
            # The lowest number that is free is taken, and those below are in use.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
