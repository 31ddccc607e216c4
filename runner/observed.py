"""Defines what was observed of a run's inputs: frozen values, a part of the record. No I/O happens here."""

from enum import Enum

from msgspec import Struct


class InputRole(str, Enum):
    """What an observed input is to the run."""

    PROJECT = "project file"  # part of the recorded tree, so that it has no digest of its own
    LINKED = "linked data"  # a file of the project that git ignores, or a declared input from outside
    OUTSIDE = "outside file"
    DOWNLOAD = "download"  # the value of a parameter that is a URL
    DATABASE = "database"  # a file of SQLite
    ADDRESS = "address"  # ``HOST:PORT``


class ObservedInput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a run was seen to open.

    ``path`` is relative to the project folder, or absolute. ``seen`` has the ways in which it was observed: ``python``
    (the hook), ``watch`` (inotify), ``trace`` (the kernel), ``declared``. ``state`` says why there is no digest.
    """

    path: str
    role: InputRole
    seen: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    state: str | None = None


class Observation(Struct, frozen=True, kw_only=True):
    """The observed inputs of a run, and how complete the observation was.

    ``method`` is ``hook`` or ``trace``. ``reasons`` say what may be missing; they are empty if ``inputs_complete``.
    """

    method: str
    inputs: tuple[ObservedInput, ...] = ()
    inputs_complete: bool = False
    reasons: tuple[str, ...] = ()
