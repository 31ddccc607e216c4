"""Reads and writes locks of conda packages: ``conda-lock.yml`` version 1 and explicit lists.

https://github.com/conda/conda-lock (``conda_lock/lockfile/v1/models.py``) and
https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html#building-identical-conda-environments
"""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runner.base.foreign_text import LARGE, ForeignTextError, parse_yaml
from runner.environments.declare.conda.files import is_explicit
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.errors import EnvironmentSetupError
from runner.urls import without_channel_credentials

OURS = "proj"
WORD = r"[A-Za-z0-9_.+!~]+"
FILE_NAME = re.compile(rf"(?P<name>[A-Za-z0-9_][\w.-]*)-(?P<version>{WORD})-(?P<build>{WORD})\.(?:conda|tar\.bz2)")
HASH = re.compile(r"(?:sha256:(?P<sha256>[0-9a-f]{64})|(?P<md5>[0-9a-f]{32}))")
PIP_LINE = re.compile(r"#\s*pip\s+(?P<name>[\w.-]+)\s*@\s*(?P<url>[^#\s]+)(?:#sha256=(?P<sha256>[0-9a-f]{64}))?")
MD5_LENGTH = 32
MAIN = "main"
HEAD = "# Made by proj in the format of conda-lock; `conda-lock install` reads it too.\n"


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


def read_conda_lock(text: str, path: str, platform: str) -> CondaLock:
    """Parse a lock and return its packages for a platform.

    Raises:
        EnvironmentSetupError: the text is no lock, or has no packages for the platform or one without a digest.
    """
    lock = _read_explicit(text, path, platform) if is_explicit(text) else _read_yaml(text, path, platform)
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


def _read_yaml(text: str, path: str, platform: str) -> CondaLock:
    try:
        whole = parse_yaml(text, LARGE)
        if whole.get("version") != 1:
            raise EnvironmentSetupError(
                f"{path} has version {whole.get('version')}; only version 1 is supported", context=path
            )
        metadata = whole["metadata"]
        entries = [entry for entry in whole["package"] if entry.get("category", MAIN) == MAIN]
        here = [entry for entry in entries if entry["platform"] == platform and not entry["name"].startswith("__")]
        packages = tuple(_package(entry) for entry in here if entry["manager"] == "conda")
        pip = tuple(_pip_package(entry) for entry in here if entry["manager"] == "pip")
        channels = tuple(without_channel_credentials(str(channel["url"])) for channel in metadata["channels"])
        content, own = metadata["content_hash"].get(platform), metadata.get("custom_metadata") or {}
        is_for_platform = bool(here) and platform in metadata.get("platforms", [platform])
        there = ", ".join(sorted({str(entry["platform"]) for entry in entries})) or "none"
        as_of, undated = own.get("as_of"), str(own.get("no_dates_for") or "").split()
    except (ForeignTextError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentSetupError(
            f"{path} is not a lock in the format of conda-lock: {error}", context=path
        ) from error
    if not is_for_platform:
        raise EnvironmentSetupError(f"{path} has no packages for {platform}, only for {there}", context=path)
    return CondaLock(
        platform=platform,
        channels=channels,
        packages=packages,
        pip=pip,
        content=content,
        is_ours=OURS in own,
        as_of=None if as_of is None else str(as_of),
        undated=tuple(undated),
    )


def _text(value: object) -> str | None:
    """Return a value as text; YAML has digests of digits alone as numbers."""
    return None if value is None or value == "" else str(value)


def _package(entry: Mapping[str, Any]) -> CondaPackage:
    url = without_channel_credentials(entry["url"])
    named = FILE_NAME.fullmatch(posixpath.basename(url))
    return CondaPackage(
        name=entry["name"],
        version=str(entry["version"]),
        build=str(entry.get("build") or (named["build"] if named else "")),
        url=url,
        md5=_text(entry["hash"].get("md5")),
        sha256=_text(entry["hash"].get("sha256")),
        depends=tuple(f"{name} {rule}".strip() for name, rule in (entry.get("dependencies") or {}).items()),
    )


def _pip_package(entry: Mapping[str, Any]) -> PipPackage:
    source = (entry.get("source") or {}).get("url")
    return PipPackage(
        name=entry["name"],
        version=str(entry["version"]),
        url=without_channel_credentials(entry["url"]),
        sha256=_text((entry.get("hash") or {}).get("sha256")),
        source=without_channel_credentials(source) if source else None,
    )


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


def _explicit_package(line: str, place: str, platform: str) -> CondaPackage:
    url, _, digest = line.partition("#")
    named, hashed = FILE_NAME.fullmatch(posixpath.basename(url)), HASH.fullmatch(digest)
    if not named or "://" not in url or (digest and not hashed):
        raise EnvironmentSetupError(
            f"'{without_channel_credentials(line)}' is not the URL of a conda package", context=place
        )
    subdir = posixpath.basename(posixpath.dirname(url))
    if subdir not in (platform, "noarch"):
        raise EnvironmentSetupError(f"'{named[0]}' is for {subdir}, but this machine is {platform}", context=place)
    return CondaPackage(
        name=named["name"],
        version=named["version"],
        build=named["build"],
        url=without_channel_credentials(url),
        md5=hashed["md5"] if hashed else None,
        sha256=hashed["sha256"] if hashed else None,
    )


def write_conda_lock(locks: Sequence[CondaLock], sources: Sequence[str], *, with_addresses: bool) -> str:
    """Return the locks of several platforms as one file.

    Without addresses, files of the Python index are given by name only, so that the index is not recorded.
    """
    import yaml

    first = locks[0]
    own = {OURS: "1", **({"as_of": first.as_of} if first.as_of else {})}
    undated = sorted({name for lock in locks for name in lock.undated})
    own |= {"no_dates_for": " ".join(undated)} if undated else {}
    whole = {
        "version": 1,
        "metadata": {
            "content_hash": {lock.platform: lock.content for lock in locks},
            "channels": [{"url": channel, "used_env_vars": []} for channel in first.channels],
            "platforms": [lock.platform for lock in locks],
            "sources": list(sources),
            "custom_metadata": own,
        },
        "package": [entry for lock in locks for entry in _entries(lock, with_addresses=with_addresses)],
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return HEAD + str(yaml.dump(whole, Dumper=dumper, sort_keys=False, width=120))


def _entries(lock: CondaLock, *, with_addresses: bool) -> Iterator[dict[str, Any]]:
    for package in sorted(lock.packages, key=lambda item: item.name):
        digests = {"md5": package.md5, "sha256": package.sha256}
        yield {
            "name": package.name,
            "version": package.version,
            "manager": "conda",
            "platform": lock.platform,
            "dependencies": _rules(package.depends),
            "url": package.url,
            "hash": {name: value for name, value in digests.items() if value},
            "category": MAIN,
            "optional": False,
            "build": package.build,
        }
    for item in sorted(lock.pip, key=lambda item: item.name):
        yield {
            "name": item.name,
            "version": item.version,
            "manager": "pip",
            "platform": lock.platform,
            "dependencies": {},
            "url": item.url if with_addresses or item.source else posixpath.basename(item.url),
            "hash": {"sha256": item.sha256} if item.sha256 else {},
            **({"source": {"type": "url", "url": item.source}} if item.source else {}),
            "category": MAIN,
            "optional": False,
        }


def _rules(depends: Sequence[str]) -> dict[str, str]:
    rules: dict[str, str] = {}
    for depend in depends:
        name, _, rule = depend.partition(" ")
        rules[name] = f"{rules[name]},{rule}".strip(",") if rules.get(name) else rule.strip()
    return rules
