"""Defines locks of conda packages and reads them: files of conda-lock through its models, explicit lists here.

https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html#building-identical-conda-environments
"""

import hashlib
import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from runner.environments.declare.conda.files import is_explicit
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.errors import EnvironmentSetupError
from runner.urls import without_channel_credentials

WORD = r"[A-Za-z0-9_.+!~]+"
FILE_NAME = re.compile(rf"(?P<name>[A-Za-z0-9_][\w.-]*)-(?P<version>{WORD})-(?P<build>{WORD})\.(?:conda|tar\.bz2)")
HASH = re.compile(r"(?:sha256:(?P<sha256>[0-9a-f]{64})|(?P<md5>[0-9a-f]{32}))")
PIP_LINE = re.compile(r"#\s*pip\s+(?P<name>[\w.-]+)\s*@\s*(?P<url>[^#\s]+)(?:#sha256=(?P<sha256>[0-9a-f]{64}))?")
MD5_LENGTH = 32


class PipPackage(Struct, frozen=True, kw_only=True):
    """A package of the Python index; ``url`` is its file (URL or name), ``source`` the location of its source code."""

    name: str
    version: str
    url: str
    sha256: str | None = None
    source: str | None = None

    @property
    def requirement(self) -> str:
        """The requirement line for the package."""
        digest = f" --hash=sha256:{self.sha256}" if self.sha256 else ""
        return f"{self.name} @ {self.source}{digest}" if self.source else f"{self.name}=={self.version}{digest}"


class CondaLock(Struct, frozen=True, kw_only=True):
    """The packages for one platform; ``content`` is the digest of the spec that was resolved.

    With ``is_ours``, ``content`` is a `CondaSpec.digest`. ``as_of`` and ``undated`` are those of `Lock`.
    """

    platform: str
    channels: tuple[str, ...]
    packages: tuple[CondaPackage, ...]
    pip: tuple[PipPackage, ...] = ()
    content: str | None = None
    is_ours: bool = False
    as_of: str | None = None
    undated: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the installed packages; it depends on the digests of their archives, not on their URLs."""
        conda = sorted((package.name, package.version, package.build, package.digest) for package in self.packages)
        pip = sorted((package.name, package.version, package.sha256, package.source) for package in self.pip)
        return hashlib.sha256(msgspec.json.encode((self.platform, conda, pip))).hexdigest()

    @property
    def python(self) -> str | None:
        """The version of Python, or None if the environment has no Python."""
        return next((package.version for package in self.packages if package.name == "python"), None)


ReadFile = Callable[[str, str, str], CondaLock]
"""Reads a file of conda-lock from its text, path and platform."""


def read_conda_lock(text: str, path: str, platform: str, read_file: ReadFile) -> CondaLock:
    """Parse a lock and return its packages for a platform.

    Raises:
        EnvironmentSetupError: the text is no lock, or has no packages for the platform or one without a digest.
    """
    lock = _read_explicit(text, path, platform) if is_explicit(text) else read_file(text, path, platform)
    for package in lock.packages:
        check_package(package, path)
    bare = [package.name for package in lock.packages if not package.digest]
    bare += [package.name for package in lock.pip if not (package.sha256 or package.source)]
    if bare:
        raise EnvironmentSetupError(
            f"{path} has no digest for {', '.join(bare[:6])}",
            context=path,
            hint="Make the lock with 'conda list --explicit --md5' or 'conda-lock', which write digests.",
        )
    return lock


def check_package(package: CondaPackage, path: str) -> None:
    """Check name, version, build and URL of a package, because they become parts of paths.

    Raises:
        EnvironmentSetupError: one of them has a form that is not allowed.
    """
    stem = f"{package.name}-{package.version}-{package.build}"
    digests = [package.sha256 or "0" * 64, package.md5 or "0" * 32]
    fits = package.file_name.lower() in (f"{stem}.conda".lower(), f"{stem}.tar.bz2".lower())
    if not (fits and FILE_NAME.fullmatch(package.file_name) and all(HASH.fullmatch(_named(item)) for item in digests)):
        what = without_channel_credentials(package.url)
        raise EnvironmentSetupError(f"{path} has an invalid package: {package.name}, '{what}'", context=path)


def _named(digest: str) -> str:
    return f"sha256:{digest}" if len(digest) > MD5_LENGTH else digest


def _read_explicit(text: str, path: str, platform: str) -> CondaLock:
    packages, pip = [], []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if match := PIP_LINE.fullmatch(line):
            source = None if match["sha256"] else match["url"]
            version = posixpath.basename(match["url"]).split("-")[1:2]
            pip.append(_explicit_pip(match, version, source))
        elif line and not line.startswith(("#", "@")):
            packages.append(_explicit_package(line, f"{path}, line {number}", platform))
    channels = dict.fromkeys(package.url.rsplit("/", 2)[0] for package in packages)
    return CondaLock(platform=platform, channels=tuple(channels), packages=tuple(packages), pip=tuple(pip))


def _explicit_pip(match: re.Match[str], version: Sequence[str], source: str | None) -> PipPackage:
    plain = version[0].removesuffix(".tar.gz").removesuffix(".zip") if version else ""
    return PipPackage(name=match["name"], version=plain, url=match["url"], sha256=match["sha256"], source=source)


def _explicit_package(line: str, position: str, platform: str) -> CondaPackage:
    url, _, digest = line.partition("#")
    named, hashed = FILE_NAME.fullmatch(posixpath.basename(url)), HASH.fullmatch(digest)
    if not named or "://" not in url or (digest and not hashed):
        raise EnvironmentSetupError(
            f"'{without_channel_credentials(line)}' is not the URL of a conda package", context=position
        )
    subdir = posixpath.basename(posixpath.dirname(url))
    if subdir not in (platform, "noarch"):
        raise EnvironmentSetupError(f"'{named[0]}' is for {subdir}, but this machine is {platform}", context=position)
    return CondaPackage(
        name=named["name"],
        version=named["version"],
        build=named["build"],
        url=without_channel_credentials(url),
        md5=hashed["md5"] if hashed else None,
        sha256=hashed["sha256"] if hashed else None,
    )
