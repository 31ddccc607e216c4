"""Reads locks that other tools wrote: ``pylock.toml`` (PEP 751) and ``uv.lock``."""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.base.foreign_text import ForeignTextError, decode_text, parse_toml
from runner.environments.words import EnvironmentSpec, LocalPackage
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

REQUIRES = re.compile(r'^\s*requires-python\s*=\s*["\']([^"\']+)["\']', re.MULTILINE)
INDEX = re.compile(r'\[\[tool\.uv\.index\]\][^\[]*?\burl\s*=\s*["\']([^"\']+)["\']')
NO_PACKAGE = re.compile(r"^\s*package\s*=\s*false", re.MULTILINE)
OF_CHOICE = re.compile(r"\b(extras|dependency_groups)\b")

Table = Mapping[str, Any]


def read_uv_lock(path: str, content: bytes, files: ProjectFiles) -> EnvironmentSpec:
    """Return the spec of a project that uv has locked; uv itself reads the lock when it is needed."""
    folder = posixpath.dirname(path)
    project = files.read(posixpath.join(folder, "pyproject.toml"))
    if project is None:
        raise EnvironmentSetupError(f"'{path}' has no pyproject.toml beside it", context=path)
    text = decode_text(project)
    rule = REQUIRES.search(text) or REQUIRES.search(decode_text(content))
    is_package = "[build-system]" in text and not NO_PACKAGE.search(text)
    return EnvironmentSpec(
        kind=EnvironmentKind.UV_LOCK,
        file=path,
        python=_pinned_python(folder, files) or (rule[1] if rule else None),
        options=tuple(f"--extra-index-url {url}" for url in INDEX.findall(text)),
        local_packages=(LocalPackage(path=folder or ".", editable=True),) if is_package else (),
        locked_by=hashlib.sha256(content + b"\0" + project).hexdigest(),
    )


def read_pylock(path: str, content: bytes, files: ProjectFiles) -> EnvironmentSpec:
    """Return the spec of a standard lock; its addresses are left out, as its hashes name the files.

    https://packaging.python.org/en/latest/specifications/pylock-toml/
    """
    try:
        lock: Table = parse_toml(content)
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"{path} can't be read: {error}", context=path) from None
    if not str(lock.get("lock-version", "")).startswith("1."):
        version = lock.get("lock-version", "none")
        raise EnvironmentSetupError(f"{path} has lock-version {version}, and 1.0 is understood", context=path)
    packages: list[Table] = lock.get("packages", [])
    local = [_local(path, package, files) for package in packages if "directory" in package]
    lines = [line for package in packages if "directory" not in package for line in _lines(path, package)]
    return EnvironmentSpec(
        kind=EnvironmentKind.PYLOCK,
        file=path,
        python=lock.get("requires-python"),
        requirements=tuple(lines),
        local_packages=tuple(local),
    )


def _lines(path: str, package: Table) -> Iterator[str]:
    """Yield the requirement line of a package; one that belongs to an extra or a group is not part of the default."""
    name, marker = package["name"], package.get("marker", "")
    if OF_CHOICE.search(marker) and not re.search(r"['\"]default['\"]|not in (extras|dependency_groups)", marker):
        return
    suffix = f" ; {marker}" if marker and not OF_CHOICE.search(marker) else ""
    if vcs := package.get("vcs"):
        subdirectory = f"#subdirectory={vcs['subdirectory']}" if vcs.get("subdirectory") else ""
        yield f"{name} @ {vcs['type']}+{vcs.get('url', vcs.get('path'))}@{vcs['commit-id']}{subdirectory}{suffix}"
        return
    hashes = sorted(set(_hashes(package)))
    if not hashes or not (package.get("version") or package.get("archive")):
        raise EnvironmentSetupError(f"{path}: package '{name}' has no files with hashes", context=path)
    words = "".join(f" --hash=sha256:{value}" for value in hashes)
    archive = package.get("archive", {})
    yield (
        f"{name} @ {archive['url']}{suffix}{words}"
        if "url" in archive
        else f"{name}=={package['version']}{suffix}{words}"
    )


def _hashes(package: Table) -> Iterator[str]:
    files = [*package.get("wheels", []), package.get("sdist", {}), package.get("archive", {})]
    yield from (file["hashes"]["sha256"] for file in files if "sha256" in file.get("hashes", {}))


def _local(path: str, package: Table, files: ProjectFiles) -> LocalPackage:
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), package["directory"]["path"]))
    if not files.names("" if place == "." else place):
        raise EnvironmentSetupError(
            f"{path}: package '{package['name']}' is in '{place}', which is not there", context=path
        )
    return LocalPackage(path=place, editable=bool(package["directory"].get("editable")))


def _pinned_python(folder: str, files: ProjectFiles) -> str | None:
    content = files.read(posixpath.join(folder, ".python-version")) or b""
    match = re.fullmatch(r"\s*(?:cpython-)?(\d+(?:\.\d+)*)\s*", content.decode("utf-8", "replace"))
    return match[1] if match else None
