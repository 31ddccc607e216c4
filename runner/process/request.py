"""What is asked of a command that is run to its end, and how it ended."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from msgspec import Struct

from runner.model import Resources


class Echo(str, Enum):
    """Where the output of a command is shown while it runs."""

    SPLIT = "split"
    """Its output on our output, its errors on our errors."""
    STDERR = "stderr"
    """All of it on our errors; our output is kept for data."""
    NONE = "none"


class Stdin(str, Enum):
    """What a command reads."""

    INHERIT = "inherit"
    NOTHING = "nothing"


class ProcessRequest(Struct, frozen=True, kw_only=True):
    """A command to run to its end. ``env`` is the whole environment; times are seconds.

    ``grace`` is the time between one rung and the next of the stop ladder. ``masks`` are replaced by ``***`` in the
    log and in what is shown, as is everything that looks like a credential. A command that ``relays`` passes signals on
    to what it started, as the client of a container engine does: all but SIGKILL are sent to it alone.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    log: Path | None = None
    echo: Echo = Echo.SPLIT
    stdin: Stdin = Stdin.INHERIT
    timeout: float | None = None
    grace: float = 5.0
    masks: tuple[bytes, ...] = ()
    relays: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """How a command ended.

    ``exit_code`` is the command's own, 128+n when signal n ended it. Times of day are milliseconds since 1970 in UTC.
    Processor times are of all processes of the command, ``peak_memory`` is bytes of the largest one. ``stopped_by``
    says why we ended it: ``timeout``, ``SIGINT``, ``SIGTERM`` or ``SIGHUP``. ``left_behind`` names the processes that
    were still there when the command had ended, and that we ended. ``log_fault`` says why the log is incomplete.
    """

    exit_code: int
    started_at: int
    ended_at: int
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    signal: int | None = None
    peak_memory: int | None = None
    stopped_by: str | None = None
    left_behind: tuple[str, ...] = ()
    log_fault: str | None = None

    @property
    def resources(self) -> Resources:
        """What the command used."""
        return Resources(
            wall_seconds=self.wall_seconds,
            user_seconds=self.user_seconds,
            system_seconds=self.system_seconds,
            peak_memory=self.peak_memory,
        )
