"""Describes a command to run and its outcome."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from msgspec import Struct

from runner.model import Resources


class Echo(str, Enum):
    """The streams on which the output of a command is shown while it runs."""

    SPLIT = "split"
    """The command's stdout on proj's stdout, its stderr on proj's stderr."""
    TERMINAL = "terminal"
    """As `SPLIT`; the command's output is a terminal of its own, because proj's is one."""
    STDERR = "stderr"
    """Both on proj's stderr; stdout stays free for data."""
    NONE = "none"


class Stdin(str, Enum):
    """The standard input of a command."""

    INHERIT = "inherit"
    NOTHING = "nothing"


class ProcessRequest(Struct, frozen=True, kw_only=True):
    """A command to run to its end. ``env`` is the whole environment; times are seconds.

    ``grace`` is the time between two signals of the stop sequence. ``masks`` are replaced by ``***`` in the log and on
    the screen, as is everything that looks like a credential. A command that ``relays`` passes signals on to the
    processes that it started, as the client of a container engine does: all signals but SIGKILL are sent to it alone.
    Lines in which a client links to one of ``dead_addresses`` are kept off the screen; the log has them.
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
    dead_addresses: tuple[str, ...] = ()
    trace: Path | None = None
    """The file to which the tracer writes what the command opens; None if it is not traced."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a command ended.

    ``exit_code`` is the command's own, or 128+n when signal n ended it. ``started_at`` and ``ended_at`` are
    milliseconds since 1970 in UTC. Processor times are of all processes of the command, ``peak_memory`` is the bytes of
    the largest process. ``stopped_by`` is the reason for which proj ended it: ``timeout``, ``SIGINT``, ``SIGTERM`` or
    ``SIGHUP``. ``left_behind`` names the processes that still ran after the command had ended and that proj ended.
    ``log_fault`` is the reason why the log is incomplete.
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
        """The resources that the command used."""
        return Resources(
            wall_seconds=self.wall_seconds,
            user_seconds=self.user_seconds,
            system_seconds=self.system_seconds,
            peak_memory=self.peak_memory,
        )
