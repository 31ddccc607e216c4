"""How much commands say on stderr; apart from ``text.py``, because `proj --help` needs nothing else of it."""

from enum import IntEnum


class Verbosity(IntEnum):
    """How much is said on stderr: warnings and errors only, what matters, or also what is usually only recorded."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_chosen = [Verbosity.NORMAL]


def set_verbosity(wanted: Verbosity) -> None:
    """Choose how much is said from now on."""
    _chosen[0] = wanted


def verbosity() -> Verbosity:
    """Return how much is said."""
    return _chosen[0]
