"""Reads conda's records of the packages that are installed in a prefix.

The format: https://conda.org/learn/ceps/cep-0032, ``conda-meta/NAME-VERSION-BUILD.json``.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

METADATA = (".dist-info/METADATA", ".egg-info/PKG-INFO", ".egg-info")


class _Path(Struct, frozen=True):
    path: str = msgspec.field(name="_path")
    path_type: str = "hardlink"
    sha256: str | None = None
    sha256_in_prefix: str | None = None


class _Paths(Struct, frozen=True):
    paths: tuple[_Path, ...] = ()


class _Meta(Struct, frozen=True):
    name: str
    version: str
    build: str = ""
    files: tuple[str, ...] = ()
    paths_data: _Paths = _Paths()


class LinkedPackage(Struct, frozen=True, kw_only=True):
    """A conda package that is linked into a prefix; digests are SHA-256 in hex.

    ``file_name`` is the name of its archive without the suffix. ``expected`` has the digests of its files in the
    prefix, ``original`` the digests before the path of the prefix was written into them.
    """

    name: str
    version: str
    file_name: str
    files: frozenset[str]
    expected: Mapping[str, str]
    original: Mapping[str, str]


def linked_packages(root: Path) -> tuple[LinkedPackage, ...]:
    """Return the conda packages of a prefix, without those that pip has replaced."""
    found = []
    for file in sorted((root / "conda-meta").glob("*.json")):
        meta = msgspec.json.decode(file.read_bytes(), type=_Meta)
        package = _linked(meta)
        # pip and uv remove the distribution that they replace, but not conda's record of it.
        if not any(path.endswith(METADATA) and not (root / path).exists() for path in package.files):
            found.append(package)
    return tuple(found)


def _linked(meta: _Meta) -> LinkedPackage:
    # Tools disagree on the digest of a symbolic link, so that only plain files are compared.
    plain = [entry for entry in meta.paths_data.paths if entry.path_type == "hardlink"]
    return LinkedPackage(
        name=meta.name,
        version=meta.version,
        file_name=f"{meta.name}-{meta.version}-{meta.build}",
        files=frozenset(meta.files) | frozenset(entry.path for entry in meta.paths_data.paths),
        expected={entry.path: digest for entry in plain if (digest := entry.sha256_in_prefix or entry.sha256)},
        original={entry.path: entry.sha256 for entry in plain if entry.sha256},
    )
