"""Downloads conda's archives and checks each before anything is installed; runs in the worker's process.

The library that unpacks and links them does not check digests of ``file://`` archives, links whatever ``paths.json``
lists, and creates symbolic links to any path. So each archive is checked here once: it has the digest of its lock, and
its files stay inside the prefix.
"""

import asyncio
import hashlib
import os
import posixpath
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rattler import Channel as RattlerChannel
from rattler import Client
from rattler.package_streaming import ArchiveEntry, PackageArchive, download_to_path

from runner.base.foreign_text import LARGE, ForeignTextError, parse_json
from runner.environments.resolve.conda.protocol import Channel, CondaPackage
from runner.urls import without_channel_credentials

AT_ONCE = 8
"""The number of parallel downloads."""
RETRIES = 2
STALE_SECONDS = 86400
INFO = ("info/index.json", "info/paths.json", "info/files", "info/has_prefix", "info/link.json")
SITE = "site-packages/"
SITE_IN_PREFIX = "lib/python3.x/site-packages/"


class RefusedError(Exception):
    """An archive does not match its lock, or has paths outside of its prefix."""

    def __init__(self, package: CondaPackage, reason: str) -> None:
        super().__init__(f"{package.file_name}: {reason}")


class UnreachableError(Exception):
    """An archive can't be downloaded."""

    def __init__(self, package: CondaPackage, reason: object) -> None:
        super().__init__(f"{package.file_name}: {reason}")


class ArchiveLocations:
    """Translates URLs of archives between channels and the addresses from which they are downloaded."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._pairs = [(_base_url(channel.name), _base_url(channel.address)) for channel in channels]

    def public_url(self, url: str) -> str:
        """Return the URL to store: without credentials, and that of the channel instead of a mirror's."""
        found = next(
            (name + url[len(request_url) :] for name, request_url in self._pairs if url.startswith(request_url)), url
        )
        return without_channel_credentials(found)

    def request_url(self, url: str) -> str:
        """Return the URL from which a stored URL is downloaded."""
        return next((request_url + url[len(name) :] for name, request_url in self._pairs if url.startswith(name)), url)


def _base_url(channel: str) -> str:
    return f"{channel.rstrip('/')}/" if "://" in channel else RattlerChannel(channel).base_url


def archive_path(archives: Path, package: CondaPackage) -> Path:
    """Return the path at which an archive is stored."""
    return archives / package.digest / package.file_name


async def fetch_all(packages: Sequence[CondaPackage], archives: Path, locations: ArchiveLocations) -> int:
    """Download missing archives and check all; return how many were downloaded.

    Raises:
        RefusedError: an archive does not match its lock, or has paths outside of its prefix.
        UnreachableError: an archive can't be downloaded.
    """
    _remove_stale_downloads(archives)
    client, slots = Client.default_client(max_retries=RETRIES), asyncio.Semaphore(AT_ONCE)

    async def obtain(package: CondaPackage) -> bool:
        path = archive_path(archives, package)
        if path.is_file() and await asyncio.to_thread(_difference, path, package, only_best=True) is None:
            return False
        async with slots:
            await _fetch(client, package, locations.request_url(package.url), path)
        return True

    return sum(await asyncio.gather(*map(obtain, packages)))


def _remove_stale_downloads(archives: Path) -> None:
    """Remove the remains of downloads that were killed more than a day ago."""
    for temporary in archives.glob("*.*"):
        if time.time() - temporary.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(temporary, ignore_errors=True)


async def _fetch(client: Client, package: CondaPackage, url: str, path: Path) -> None:
    temporary = path.parent.with_name(f"{path.parent.name}.{os.getpid()}")
    temporary.mkdir(parents=True, exist_ok=True)
    part = temporary / path.name
    try:
        try:
            if url.startswith("file://"):
                await asyncio.to_thread(_copy, Path(url2pathname(urlsplit(url).path)), part)
            else:
                await download_to_path(client, url, part)
        except (OSError, RuntimeError) as error:
            raise UnreachableError(package, error) from error
        difference = await asyncio.to_thread(_difference, part, package)
        if difference:
            raise RefusedError(package, difference)
        await _inspect(part, package)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"the file {source} does not exist")
    shutil.copyfile(source, target)


def _difference(path: Path, package: CondaPackage, *, only_best: bool = False) -> str | None:
    """Return a message about the digest in which a file differs from its lock, None if it matches."""
    expected = {"sha256": package.sha256, "md5": None if only_best and package.sha256 else package.md5}
    digests = {name: hashlib.new(name, usedforsecurity=False) for name, value in expected.items() if value}
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    for name, digest in digests.items():
        if digest.hexdigest() != expected[name]:
            return f"hash mismatch: its {name} is {digest.hexdigest()}, in the lock {expected[name]}"
    return None


async def _inspect(path: Path, package: CondaPackage) -> None:
    """Check that an archive is the package of the lock and that all of its paths are inside the prefix.

    Raises:
        RefusedError: it is not, or they are not.
    """
    try:
        archive = await PackageArchive.from_path(path)
        info = {name: content for name, content in (await archive.read_files(INFO)).items() if content is not None}
        members = [entry async for entry in archive.stream("info")] + [entry async for entry in archive.stream("pkg")]
    except (OSError, ValueError, RuntimeError) as error:
        raise RefusedError(package, f"it can't be read: {error}") from error
    index = _json(info.get("info/index.json", b"{}"))
    found = tuple(str(index.get(key)) for key in ("name", "version", "build"))
    if (found[0].lower(), *found[1:]) != (package.name.lower(), package.version, package.build):
        raise RefusedError(package, f"its metadata says that it is {'-'.join(found)}")
    for name in [
        *(member.name for member in members),
        *_linked(info),
        str(index.get("python_site_packages_path") or "lib"),
    ]:
        if _leads_out(name):
            raise RefusedError(package, f"the path '{name}' leads out of the environment")
    for member in members:
        if member.is_link and _leads_out(_link_target(member)):
            raise RefusedError(package, f"the link '{member.name}' leads out of the environment: {member.link_target}")


def _linked(info: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the paths that the lists of an archive link; older archives have lines, newer ones JSON."""
    for entry in _json(info.get("info/paths.json", b"{}")).get("paths", ()):
        yield str(entry.get("_path", ""))
    for line in info.get("info/files", b"").decode("utf-8", "replace").splitlines():
        yield line.strip()
    for line in info.get("info/has_prefix", b"").decode("utf-8", "replace").splitlines():
        yield line.split()[-1].strip("\"'") if line.strip() else ""
    points = (_json(info.get("info/link.json", b"{}")).get("noarch") or {}).get("entry_points") or ()
    yield from (f"bin/{str(point).partition('=')[0].strip()}" for point in points)


def _json(content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content, LARGE)
    except ForeignTextError:
        return {}
    return value if isinstance(value, dict) else {}


def _path_in_prefix(name: str) -> str:
    """Return the path of a member in the prefix; modules of noarch packages are two folders deeper there."""
    return SITE_IN_PREFIX + name.removeprefix(SITE) if name.startswith(SITE) else name


def _link_target(link: ArchiveEntry) -> str:
    target = link.link_target or ""
    return target if link.is_hardlink else posixpath.join(posixpath.dirname(_path_in_prefix(link.name)), target)


def _leads_out(path: str) -> bool:
    plain = posixpath.normpath(path.replace("\\", "/"))
    return plain.startswith(("/", "../")) or plain == ".." or plain[1:2] == ":"
