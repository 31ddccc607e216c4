"""Fetches conda's archives and looks into each before anything is made of it; runs in the worker's process.

The library that unpacks and links them checks no digest of ``file://`` archives, links what ``paths.json`` lists
wherever that leads, and makes symbolic links to any place. So everything is checked here, once per archive: what is in
the folder of archives has the digest that its lock has, and stays within the prefix.
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
"""Downloads at a time."""
RETRIES = 2
LEFT_SECONDS = 86400
INFO = ("info/index.json", "info/paths.json", "info/files", "info/has_prefix", "info/link.json")
SITE = "site-packages/"
SITE_IN_PREFIX = "lib/python3.x/site-packages/"


class RefusedError(Exception):
    """An archive is not what its lock says, or would reach out of its prefix."""

    def __init__(self, package: CondaPackage, why: str) -> None:
        super().__init__(f"{package.file_name}: {why}")


class UnreachableError(Exception):
    """An archive can't be had."""

    def __init__(self, package: CondaPackage, why: object) -> None:
        super().__init__(f"{package.file_name}: {why}")


class ArchiveLocations:
    """The addresses of channels, as they are written down and as they are asked."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._pairs = [(_base(channel.name), _base(channel.address)) for channel in channels]

    def written(self, url: str) -> str:
        """Return an address as it is written down: without credentials, and of the channel, not of a mirror."""
        found = next((name + url[len(asked) :] for name, asked in self._pairs if url.startswith(asked)), url)
        return without_channel_credentials(found)

    def asked(self, url: str) -> str:
        """Return the address at which to ask for what is written down."""
        return next((asked + url[len(name) :] for name, asked in self._pairs if url.startswith(name)), url)


def _base(place: str) -> str:
    return f"{place.rstrip('/')}/" if "://" in place else RattlerChannel(place).base_url


def archive_path(archives: Path, package: CondaPackage) -> Path:
    """Return where an archive is kept."""
    return archives / package.digest / package.file_name


async def fetch_all(packages: Sequence[CondaPackage], archives: Path, places: ArchiveLocations) -> int:
    """Fetch the archives that are not there, check all; return how many were fetched.

    Raises:
        RefusedError: an archive is not what its lock says, or would reach out of its prefix.
        UnreachableError: an archive can't be had.
    """
    _sweep(archives)
    client, slots = Client.default_client(max_retries=RETRIES), asyncio.Semaphore(AT_ONCE)

    async def obtain(package: CondaPackage) -> bool:
        kept = archive_path(archives, package)
        if kept.is_file() and await asyncio.to_thread(_difference, kept, package, only_best=True) is None:
            return False
        async with slots:
            await _fetch(client, package, places.asked(package.url), kept)
        return True

    return sum(await asyncio.gather(*map(obtain, packages)))


def _sweep(archives: Path) -> None:
    """Remove what killed downloads left a while ago."""
    for room in archives.glob("*.*"):
        if time.time() - room.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(room, ignore_errors=True)


async def _fetch(client: Client, package: CondaPackage, url: str, kept: Path) -> None:
    room = kept.parent.with_name(f"{kept.parent.name}.{os.getpid()}")
    room.mkdir(parents=True, exist_ok=True)
    part = room / kept.name
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
        kept.parent.mkdir(parents=True, exist_ok=True)
        part.replace(kept)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    shutil.copyfile(source, target)


def _difference(path: Path, package: CondaPackage, *, only_best: bool = False) -> str | None:
    """Return in which digest a file differs from its lock, None when it is the same."""
    expected = {"sha256": package.sha256, "md5": None if only_best and package.sha256 else package.md5}
    digests = {name: hashlib.new(name, usedforsecurity=False) for name, value in expected.items() if value}
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    for name, digest in digests.items():
        if digest.hexdigest() != expected[name]:
            return f"hash mismatch: its {name} is {digest.hexdigest()}, the lock says {expected[name]}"
    return None


async def _inspect(path: Path, package: CondaPackage) -> None:
    """Refuse an archive that says it is another package, or of which anything would lie outside of the prefix."""
    try:
        archive = await PackageArchive.from_path(path)
        info = {name: content for name, content in (await archive.read_files(INFO)).items() if content is not None}
        members = [entry async for entry in archive.stream("info")] + [entry async for entry in archive.stream("pkg")]
    except (OSError, ValueError, RuntimeError) as error:
        raise RefusedError(package, f"it can't be read: {error}") from error
    index = _json(info.get("info/index.json", b"{}"))
    told = tuple(str(index.get(key)) for key in ("name", "version", "build"))
    if (told[0].lower(), *told[1:]) != (package.name.lower(), package.version, package.build):
        raise RefusedError(package, f"it is {'-'.join(told)} by its own words")
    for name in [
        *(member.name for member in members),
        *_linked(info),
        str(index.get("python_site_packages_path") or "lib"),
    ]:
        if _leads_out(name):
            raise RefusedError(package, f"'{name}' would lie outside of the environment")
    for member in members:
        if member.is_link and _leads_out(_reached(member)):
            raise RefusedError(package, f"the link '{member.name}' leads out of the environment: {member.link_target}")


def _linked(info: Mapping[str, bytes]) -> Iterator[str]:
    """Yield what the lists of an archive say that is to be linked; older ones have lines, later ones JSON."""
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


def _in_prefix(name: str) -> str:
    """Return where a member comes to lie; modules of packages for every Python get two folders deeper."""
    return SITE_IN_PREFIX + name.removeprefix(SITE) if name.startswith(SITE) else name


def _reached(link: ArchiveEntry) -> str:
    target = link.link_target or ""
    return target if link.is_hardlink else posixpath.join(posixpath.dirname(_in_prefix(link.name)), target)


def _leads_out(path: str) -> bool:
    plain = posixpath.normpath(path.replace("\\", "/"))
    return plain.startswith(("/", "../")) or plain == ".." or plain[1:2] == ":"
