"""What passes between proj and the process of its own that solves and installs conda packages."""

from msgspec import Struct


class Channel(Struct, frozen=True, kw_only=True):
    """A channel: the name that is written down, and the address that it is asked at.

    ``address`` may hold credentials or be a mirror's, ``name`` never does: it is a name, or a URL without credentials.
    """

    name: str
    address: str


class CondaPackage(Struct, frozen=True, kw_only=True):
    """A conda package to the byte; ``url`` holds no credentials and names no mirror."""

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
        """The best digest there is of the archive."""
        return self.sha256 or self.md5 or ""


class SolveTask(Struct, frozen=True, kw_only=True, tag="solve"):
    """Find the packages for some specs; ``as_of`` is RFC 3339, ``cache`` the folder for the indexes of channels.

    ``is_portable`` solves for any machine of the platform, not for what is found on this one.
    """

    channels: tuple[Channel, ...]
    specs: tuple[str, ...]
    platform: str
    cache: str
    as_of: str | None = None
    is_portable: bool = False
    is_offline: bool = False


class Solved(Struct, frozen=True, kw_only=True, tag="solved"):
    """What was found; ``undated`` have no date in their channel, ``is_mixed`` when channels had to be mixed."""

    packages: tuple[CondaPackage, ...]
    undated: tuple[str, ...] = ()
    is_mixed: bool = False


class InstallTask(Struct, frozen=True, kw_only=True, tag="install"):
    """Install packages: ``archives`` keeps what was fetched and checked, ``cache`` what was unpacked.

    ``is_careful`` reads all that was unpacked before, and unpacks again what is not whole.
    """

    channels: tuple[Channel, ...]
    packages: tuple[CondaPackage, ...]
    platform: str
    archives: str
    cache: str
    prefix: str
    is_careful: bool = False


class Installed(Struct, frozen=True, kw_only=True, tag="installed"):
    """What was done; ``scripts`` are packages with a script that wants to run after they are linked."""

    fetched: int
    scripts: tuple[str, ...] = ()


class Failure(Struct, frozen=True, kw_only=True, tag="failure"):
    """What went wrong: ``unsolvable``, ``unreachable``, ``refused`` (an archive), ``unlinked``, ``broken``."""

    kind: str
    message: str


Task = SolveTask | InstallTask
Answer = Solved | Installed | Failure
