"""What an executor is: a place where a command can run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runner.engine import ContainerRun
from runner.model import EnvironmentDeclaration, Report
from runner.process import Echo, Outcome, Stdin, SupervisorHandle
from runner.settings import Home


class Capabilities(Struct, frozen=True, kw_only=True):
    """Facts about an executor that the run depends on; nobody compares names."""

    is_local: bool
    """The command runs on this machine: what is recorded of the machine is true of the command."""
    shares_disk: bool
    """The command sees our run folder, environments and artifacts under the same paths."""
    runs_images: bool = False
    """The command can run in a container image."""


class Sharing(Struct, frozen=True, kw_only=True):
    """What a container of a run has of this machine, besides its image.

    ``folders`` appear under the same paths and can be written; ``repository`` is the project's in the run folder, which
    is one of them. ``project`` is the user's own project folder. ``options`` are the user's for the engine, by name
    without dashes; those without a value are flags.
    """

    run_id: str
    home: Home
    folders: tuple[Path, ...]
    repository: Path
    project: Path | None = None
    options: tuple[tuple[str, str | None], ...] = ()


class ExecutionRequest(Struct, frozen=True, kw_only=True):
    """A command with all that it needs. ``variables`` is the whole environment: see `child_environment`.

    ``argv`` reaches the command exactly. Times are seconds. ``prepared`` may be a supervisor that was started ahead.
    ``container`` and ``sharing`` are for executors that run images.
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


class Executor(Protocol):
    """A place where a command can run."""

    @property
    def name(self) -> str:
        """The name that the user types."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the run may rely on."""
        ...

    def why_not(self, environment: EnvironmentDeclaration) -> str | None:
        """Return None where a command with this environment can run, else the reason in words for a person."""
        ...

    def execute(self, request: ExecutionRequest, report: Report) -> Outcome:
        """Run the command to its end.

        Raises:
            ExecutionError: it can't be started.
        """
        ...
