"""Lists the distributions that are installed in a prefix, with the checksums of their files."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from runner.environments.cache.conda_meta import LinkedPackage, linked_packages

CACHES = "__pycache__"
INSTALLER_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
"""Files of a dist-info folder that depend on the installer, not on the distribution."""
METADATA_NAME = rb"(?m)^Name:\s*(\S+)"
METADATA_VERSION = rb"(?m)^Version:\s*(\S+)"


class Distribution(Struct, frozen=True, kw_only=True):
    """An installed distribution; ``digest`` is that of its files and the same for every installer."""

    name: str
    version: str
    digest: str
    is_pure: bool = True
    top_level: tuple[str, ...] = ()


class InstalledPackage(Struct, frozen=True, kw_only=True):
    """A package of a prefix: a ``dist-info`` folder, or a package that conda ``linked``.

    ``name`` includes the version, ``title`` does not; ``recorded`` has a SHA-256 in hex by path.
    """

    name: str
    title: str
    recorded: Mapping[str, str]
    folder: Path | None = None
    linked: LinkedPackage | None = None


def installed_packages(root: Path) -> tuple[InstalledPackage, ...]:
    """Return the packages of a prefix, those of conda first; each file belongs to one of them."""
    linked = linked_packages(root)
    owned = frozenset().union(*(package.files for package in linked))
    folders = [folder for site in _sites(root) for folder in sorted(site.glob("*.dist-info")) if folder.is_dir()]
    conda = tuple(
        InstalledPackage(name=package.file_name, title=package.name, recorded=package.expected, linked=package)
        for package in linked
    )
    return conda + tuple(
        InstalledPackage(
            name=folder.name, title=folder.name.split("-")[0], recorded=dict(_record(folder, root)), folder=folder
        )
        for folder in folders
        if (folder / "METADATA").relative_to(root).as_posix() not in owned
    )


def describe(package: InstalledPackage, root: Path, found: Mapping[str, str]) -> Distribution:
    """Return a package as a distribution; ``found`` has the checksums of the prefix's files by path."""
    if package.linked:
        return _linked_distribution(package.linked, found)
    folder = package.folder or root
    metadata = _content(folder / "METADATA")
    name, version = re.search(METADATA_NAME, metadata), re.search(METADATA_VERSION, metadata)
    site = os.path.relpath(folder.parent, root)
    own = sorted(path for path in package.recorded if path in found and _is_code(path, site, folder.name))
    digest = hashlib.sha256("".join(f"{found[path]} {path}\n" for path in own).encode()).hexdigest()
    wheel = _content(folder / "WHEEL")
    start = 0 if site == "." else len(site) + 1
    tops = {path[start:].split("/")[0] for path in own if ".dist-info/" not in path}
    stem = folder.name.removesuffix(".dist-info").rpartition("-")
    return Distribution(
        name=name[1].decode("utf-8", "replace") if name else stem[0],
        version=version[1].decode("utf-8", "replace") if version else stem[2],
        digest=digest,
        is_pure=b"Root-Is-Purelib: true" in wheel,
        top_level=tuple(sorted(tops)),
    )


def _linked_distribution(package: LinkedPackage, found: Mapping[str, str]) -> Distribution:
    """Return the distribution of a conda package, by the checksums of files before conda inserted the prefix."""
    there = [path for path in sorted(package.files) if path in found]
    lines = "".join(f"{package.original.get(path, found[path])} {path}\n" for path in there)
    return Distribution(name=package.name, version=package.version, digest=hashlib.sha256(lines.encode()).hexdigest())


def _sites(root: Path) -> list[Path]:
    """Return the folders of a prefix with distributions: site-packages, or the root of a target folder."""
    found = [*root.glob("lib/python*/site-packages"), *root.glob("lib/pypy*/site-packages")]
    return found or [root]


def _content(file: Path) -> bytes:
    """Return the content of a file of a package, nothing if there is no such file."""
    return file.read_bytes() if file.is_file() else b""


def _record(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of the files that a distribution records, in the format of PEP 376 and 427.

    An empty SHA-256 stands for one that can't be read, so that the distribution counts as wrong.
    """
    import csv

    text = _content(folder / "RECORD").decode("utf-8", "replace")
    site = os.path.relpath(folder.parent, root)
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error:
        yield f"{site}/{folder.name}/RECORD", ""
        return
    for row in rows:
        algorithm, _, value = (row[1] if len(row) > 1 else "").partition("=")
        path = f"{site}/{row[0]}" if row else ""
        if site == "." or "\\" in path or "//" in path or "./" in path:
            path = os.path.normpath(path).replace("\\", "/")
        if algorithm == "sha256" and f"/{CACHES}/" not in f"/{path}":
            yield path, _hex(value)


def _hex(value: str) -> str:
    """Return a digest in hex from the URL-safe base64 of a RECORD, nothing if it is none."""
    from base64 import urlsafe_b64decode

    try:
        return urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return ""


def _is_code(path: str, site: str, own: str) -> bool:
    """Return whether a file is the same for every installer and prefix: no script and no file of the installer."""
    inside = site == "." or path.startswith(f"{site}/")
    scripts = path.startswith("bin/")
    return inside and not scripts and not (f"{own}/" in path and path.rpartition("/")[2] in INSTALLER_FILES)
