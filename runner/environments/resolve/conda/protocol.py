"""Defines what the tools that solve and install conda packages do, and the messages to the worker process."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runner.environments.model import AnyRequest


class Channel(Struct, frozen=True, kw_only=True):
    """A channel: the name that is recorded, and the address for requests.

    ``address`` may hold credentials or be that of a mirror; ``name`` is a plain name or a URL without credentials.
    """

    name: str
    address: str


class CondaPackage(Struct, frozen=True, kw_only=True):
    """An exact conda package; ``url`` has no credentials and is not that of a mirror."""

    name: str
    version: str
    build: str
    url: str
    md5: str | None = None
    sha256: str | None = None
    depends: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """The name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """The SHA-256 of the archive, else its MD5, else an empty string."""
        return self.sha256 or self.md5 or ""


class SolveTask(Struct, frozen=True, kw_only=True, tag="solve"):
    """A request to solve specs; ``as_of`` is RFC 3339, ``cache`` the folder for the indexes of channels.

    ``is_portable`` solves for any machine of the platform, without the virtual packages of this machine.
    """

    channels: tuple[Channel, ...]
    specs: tuple[str, ...]
    platform: str
    cache: str
    as_of: str | None = None
    is_portable: bool = False
    is_offline: bool = False


class Solved(Struct, frozen=True, kw_only=True, tag="solved"):
    """A solution; ``undated`` packages have no date in their channel, ``is_mixed`` means relaxed channel priority."""

    packages: tuple[CondaPackage, ...]
    undated: tuple[str, ...] = ()
    is_mixed: bool = False


class InstallTask(Struct, frozen=True, kw_only=True, tag="install"):
    """A request to install packages: ``archives`` stores verified downloads, ``cache`` unpacked packages.

    ``is_careful`` verifies packages that were unpacked before, and unpacks damaged ones again.
    """

    channels: tuple[Channel, ...]
    packages: tuple[CondaPackage, ...]
    platform: str
    archives: str
    cache: str
    prefix: str
    is_careful: bool = False


class Installed(Struct, frozen=True, kw_only=True, tag="installed"):
    """The result of an installation; ``scripts`` are packages with a post-link script."""

    fetched: int
    scripts: tuple[str, ...] = ()


class Failure(Struct, frozen=True, kw_only=True, tag="failure"):
    """An error; kinds: ``unsolvable``, ``unreachable``, ``refused`` (an archive), ``unlinked``, ``broken``."""

    kind: str
    message: str


Task = SolveTask | InstallTask
Result = Solved | Installed | Failure


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


ToolChoice = Callable[[AnyRequest, str, tuple[str, ...]], CondaTool]
"""Returns the tool for a request, a platform and its channels."""
