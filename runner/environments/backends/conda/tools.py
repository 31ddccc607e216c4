"""What solves and installs conda packages: the library, or an executable of the user's when that is asked for."""

from pathlib import Path
from typing import Protocol

from runner.environments.backends.conda.command import CondaCommand, find_executable
from runner.environments.backends.conda.rattler import Rattler
from runner.environments.model import EnvironmentRequest
from runner.environments.resolve.conda.protocol import CondaPackage, Installed, Solved


class CondaTool(Protocol):
    """Something that solves and installs conda packages."""

    @property
    def name(self) -> str:
        """Its name, which is part of the identity of what it makes."""
        ...

    @property
    def knows_dates(self) -> bool:
        """Say whether it can leave out what is newer than a date."""
        ...

    def usual_channels(self) -> tuple[str, ...]:
        """Return the names of the channels where a file names none."""
        ...

    def solve(self, specs: tuple[str, ...], as_of: str | None, log: Path, *, is_portable: bool = False) -> Solved:
        """Find the packages for specs."""
        ...

    def missing(self, packages: tuple[CondaPackage, ...]) -> int:
        """Return how many archives are not on this machine yet."""
        ...

    def install(self, packages: tuple[CondaPackage, ...], prefix: Path, log: Path) -> Installed:
        """Make a prefix of packages, whose digests are checked."""
        ...

    def evict(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Remove what is kept of packages; return the names of which nothing is."""
        ...


def choose_tool(request: EnvironmentRequest, platform: str, channels: tuple[str, ...]) -> CondaTool:
    """Return the executable that the user names, else the library."""
    executable = find_executable(request.environ)
    kind = CondaCommand if executable else Rattler
    more = {"executable": executable} if executable else {}
    return kind(home=request.home, environ=request.environ, channels=channels, platform=platform, **more)
