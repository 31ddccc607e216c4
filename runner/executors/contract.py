"""Defines the executor interface and its requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runner.engine import ContainerRun
from runner.model import EnvironmentDeclaration, Report
from runner.process import Echo, Outcome, Stdin, SupervisorHandle
from runner.settings import Home


class Capabilities(Struct, frozen=True, kw_only=True):
    """Properties of an executor. Code that uses executors checks these, not their names."""

    runs_images: bool = False
    """Whether it runs commands in a container image."""
    traces: bool = False
    """Whether it can let the kernel report the files that a command opens."""


class Sharing(Struct, frozen=True, kw_only=True):
    """The folders and options of this machine that the container of a run gets.

    ``folders`` are mounted writable under the same paths. ``repository`` is the repository's copy in the run folder,
    which is in one of them. ``project`` is the user's own project folder. ``options`` are the user's options for the
    engine, by name without dashes; those without a value are flags.
    """

    run_id: str
    home: Home
    folders: tuple[Path, ...]
    repository: Path
    project: Path | None = None
    options: tuple[tuple[str, str | None], ...] = ()


class ExecutionRequest(Struct, frozen=True, kw_only=True):
    """A command to execute. ``variables`` is its whole environment, see `child_environment`.

    ``argv`` is passed without a shell. Times are seconds. ``prepared`` is a supervisor that was started ahead, if any.
    ``container`` and ``sharing`` are for executors that run images. ``dead_addresses`` are those of servers that end
    with the command.
    """

    argv: tuple[str, ...]
    cwd: Path
    variables: Mapping[str, str]
    log: Path | None = None
    echo: Echo = Echo.SPLIT
    stdin: Stdin = Stdin.INHERIT
    timeout: float | None = None
    grace: float = 5.0
    masks: tuple[bytes, ...] = ()
    prepared: SupervisorHandle | None = None
    container: ContainerRun | None = None
    sharing: Sharing | None = None
    dead_addresses: tuple[str, ...] = ()
    trace: Path | None = None
    """The file to which the kernel's reports of opened files are written; None if the command is not traced."""


class Executor(Protocol):
    """Runs commands in one kind of place, such as this machine or a container."""

    @property
    def name(self) -> str:
        """The name that the user types."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The properties of the executor."""
        ...

    def why_not(self, environment: EnvironmentDeclaration) -> str | None:
        """Return the reason, for a message, why commands with this environment can't run here; None if they can."""
        ...

    def execute(self, request: ExecutionRequest, report: Report) -> Outcome:
        """Run the command to its end.

        Raises:
            ExecutionError: the command can't be started.
        """
        ...
