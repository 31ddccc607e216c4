"""Chooses the tool that solves and installs conda packages: py-rattler, or an executable that the user configured."""

from pathlib import Path
from typing import Protocol

from runner.environments.backends.conda.command import CondaCommand, find_executable
from runner.environments.backends.conda.rattler import Rattler
from runner.environments.model import AnyRequest
from runner.environments.resolve.conda.protocol import CondaPackage, Installed, Solved


class CondaTool(Protocol):
    """Solves and installs conda packages."""

    @property
    def name(self) -> str:
        """Its name, which is part of the identity of the environments that it builds."""
        ...

    @property
    def knows_dates(self) -> bool:
        """Whether it can leave out packages that are newer than a date."""
        ...

    def usual_channels(self) -> tuple[str, ...]:
        """Return the names of the default channels."""
        ...

    def solve(self, specs: tuple[str, ...], as_of: str | None, log: Path, *, is_portable: bool = False) -> Solved:
        """Return the packages that satisfy specs."""
        ...

    def missing(self, packages: tuple[CondaPackage, ...]) -> int:
        """Return the number of archives that are not on this machine."""
        ...

    def install(self, packages: tuple[CondaPackage, ...], prefix: Path, log: Path) -> Installed:
        """Create a prefix of packages and check their digests."""
        ...

    def evict(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Remove packages from the cache; return the names of packages that are not in it."""
        ...


def choose_tool(request: AnyRequest, platform: str, channels: tuple[str, ...]) -> CondaTool:
    """Return the executable that the user configured, else the library."""
    executable = find_executable(request.environ)
    kind = CondaCommand if executable else Rattler
    more = {"executable": executable} if executable else {}
    return kind(home=request.home, environ=request.environ, channels=channels, platform=platform, **more)
