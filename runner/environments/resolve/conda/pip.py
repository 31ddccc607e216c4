"""Locks and installs the pip part of a conda environment with uv."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.base.foreign_text import parse_toml
from runner.base.package_names import canonical_name
from runner.environments.backends.python_backend import BIN
from runner.environments.cache.source_trees import copy_packages
from runner.environments.declare.conda.names import PYTHON_NAMES
from runner.environments.declare.indexes import expand, index_options
from runner.environments.model import AnyRequest
from runner.environments.resolve.conda.lockfile import PipPackage
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.environments.resolve.locking import FILTERED, MAX_ATTEMPTS
from runner.environments.resolve.uv_command import clean_cwd, command_error, find_uv, requirements_file
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, Report
from runner.process import Completed
from runner.urls import with_credentials, without_credentials

TARGETS = {
    "linux-64": "x86_64-unknown-linux-gnu",
    "linux-aarch64": "aarch64-unknown-linux-gnu",
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-64": "x86_64-pc-windows-msvc",
}
"""uv's names for conda's platforms."""
PIP_PYTHON = "python"


class PipLock(Struct, frozen=True, kw_only=True):
    """The resolved pip part; ``undated`` are packages without upload dates on the index."""

    packages: tuple[PipPackage, ...] = ()
    undated: tuple[str, ...] = ()


class PipPart:
    """The part under ``pip:`` of a conda environment whose conda packages are resolved."""

    def __init__(self, request: AnyRequest, spec: PythonSpec, platform: str, log: Path) -> None:
        self._request, self._spec, self._platform, self._log = request, spec, platform, log
        self._uv = find_uv(request.home, index_options(spec.options, request.environ), request.environ)

    def lock(self, packages: Sequence[CondaPackage], as_of: str | None, report: Report) -> PipLock:
        """Resolve the part; the versions of conda's Python packages are used as constraints where possible.

        Raises:
            EnvironmentSetupError: no set of packages satisfies it, or the environment has no Python.
        """
        if self._spec.is_empty:
            return PipLock()
        python = next((package.version for package in packages if package.name == PIP_PYTHON), None)
        if python is None:
            raise EnvironmentSetupError(
                f"{self._spec.file} has a pip part and no 'python' among its dependencies", context=self._spec.file
            )
        given = _conda_versions(packages)
        done, undated = self._resolve(python, as_of, given)
        if done.exit_code and given:
            again, late = self._resolve(python, as_of, {})
            if not again.exit_code:
                done, undated = again, late
        if done.exit_code:
            raise command_error("No set of packages satisfies the pip part", done, self._log)
        if undated:
            report(_notice(f"The index has no upload dates for {', '.join(undated)}: all versions were considered"))
        locked = self._packages(done.stdout, python)
        replaced = [item.name for item in locked if item.name in given and given[item.name] != item.version]
        if replaced:
            report(_notice(f"The pip part replaces conda packages: {', '.join(replaced)}"))
        return PipLock(packages=tuple(item for item in locked if given.get(item.name) != item.version), undated=undated)

    def install(self, packages: Sequence[PipPackage], prefix: Path, as_of: str | None, link_mode: str) -> None:
        """Install the locked packages into a prefix with conda packages.

        Raises:
            EnvironmentSetupError: a file can't be downloaded, or does not match the lock.
        """
        text = "".join(f"{package.requirement}\n" for package in packages)
        lines = [*self._uv.index.lines, with_credentials(text, self._spec.requirements)]
        with requirements_file(lines, "requirements.txt") as file:
            done = self._uv.run(
                *("pip", "install", "--no-deps", "--requirements", file, "--python", prefix / BIN / "python"),
                *(
                    "--break-system-packages",
                    "--link-mode",
                    link_mode,
                    *_cutoff_options(as_of, ()),
                    *self._uv.index.arguments,
                ),
                cwd=clean_cwd(self._request.home),
            )
        if done.exit_code:
            raise command_error("The pip part of the lock can't be installed", done, self._log)

    def _resolve(self, python: str, as_of: str | None, given: Mapping[str, str]) -> tuple[Completed, tuple[str, ...]]:
        """Run uv, with packages that have no upload dates exempt from the cutoff."""
        undated: tuple[str, ...] = ()
        for _ in range(MAX_ATTEMPTS):
            done = self._compile(python, _cutoff_options(as_of, undated), given)
            found = FILTERED.finditer(done.error_text) if done.exit_code and as_of else ()
            more = {match["name"] for match in found if "published at" not in match["rest"]} - set(undated)
            if not more:
                break
            undated = tuple(sorted({*undated, *more}))
        return done, undated

    def _compile(self, python: str, words: Sequence[str], given: Mapping[str, str]) -> Completed:
        spec = self._spec
        with requirements_file(self._uv.index.lines) as file:
            lines = [*self._uv.index.lines, *map(expand, spec.requirements), *self._local(file.parent)]
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            constraints = file.with_name("constraints.txt")
            bounds = [*map(expand, spec.constraints), *(f"{name}=={version}" for name, version in given.items())]
            constraints.write_text("".join(f"{line}\n" for line in bounds), encoding="utf-8")
            return self._uv.run(
                *("pip", "compile", file, "--constraints", constraints, "--format", "pylock.toml", "--no-header"),
                *("--python-version", python, "--python-platform", TARGETS.get(self._platform, self._platform)),
                *(*words, *self._uv.index.arguments),
                cwd=clean_cwd(self._request.home),
            )

    def _local(self, temporary: Path) -> Iterator[str]:
        packages = self._spec.local_packages
        if packages and self._request.tree is not None:
            copies = copy_packages(self._request.tree, packages, temporary)
            for package, copy in zip(packages, copies, strict=True):
                yield f"{copy}[{','.join(package.extras)}]" if package.extras else str(copy)

    def _packages(self, pylock: bytes, python: str) -> list[PipPackage]:
        entries = parse_toml(pylock).get("packages", [])
        rank = _ranks(python, self._platform)
        return [found for entry in entries if (found := _package(entry, rank))]


def _conda_versions(packages: Sequence[CondaPackage]) -> dict[str, str]:
    """Return the Python packages among conda's packages: name on the Python index and version."""
    of_python = [
        package for package in packages if any(re.match(r"python(_abi)?(\s|$)", depend) for depend in package.depends)
    ]
    names = {package: canonical_name(package.name) for package in of_python}
    plain = {PYTHON_NAMES.get(name, name).partition(" ")[0].partition("[")[0]: item for item, name in names.items()}
    return {name: item.version for name, item in plain.items() if re.fullmatch(r"[\d.]+([a-z]+\d+)?", item.version)}


def _package(entry: Mapping[str, Any], rank: Mapping[str, int]) -> PipPackage | None:
    """Return a package of uv's result with its best file; None for one of the project's own packages."""
    name = entry["name"]
    if vcs := entry.get("vcs"):
        below = f"#subdirectory={vcs['subdirectory']}" if vcs.get("subdirectory") else ""
        source = f"{vcs['type']}+{without_credentials(vcs['url'])}@{vcs['commit-id']}{below}"
        return PipPackage(name=name, version=entry.get("version", ""), url=source, source=source)
    if archive := entry.get("archive"):
        return _archive(name, entry, archive)
    if "version" not in entry:
        return None
    wheels = [(best, wheel) for wheel in entry.get("wheels", ()) if (best := _rank(wheel, rank)) is not None]
    file = min(wheels, key=lambda pair: pair[0])[1] if wheels else entry.get("sdist")
    if file is None or "sha256" not in file.get("hashes", {}):
        raise EnvironmentSetupError(f"the package index has no file with a digest for {name} {entry['version']}")
    return PipPackage(
        name=name,
        version=entry["version"],
        url=without_credentials(file.get("url") or file["name"]),
        sha256=file["hashes"]["sha256"],
    )


def _archive(name: str, entry: Mapping[str, Any], archive: Mapping[str, Any]) -> PipPackage | None:
    if "url" not in archive:
        return None
    url = without_credentials(archive["url"])
    digest = archive.get("hashes", {}).get("sha256")
    return PipPackage(name=name, version=entry.get("version", ""), url=url, sha256=digest, source=url)


def _ranks(python: str, platform: str) -> dict[str, int]:
    """Return the wheel tags that are compatible with a Python on a platform, each with its rank (0 is best)."""
    from packaging import tags

    version = tuple(int(number) for number in re.findall(r"\d+", python)[:2])
    system, _, machine = platform.partition("-")
    arch = {"64": "x86_64", "arm64": "arm64"}.get(machine, machine)
    if system == "osx":
        platforms = list(tags.mac_platforms((14, 0), arch))
    elif system == "win":
        platforms = ["win_amd64" if machine == "64" else f"win_{machine}"]
    else:
        platforms = [f"manylinux_2_{minor}_{arch}" for minor in range(40, 4, -1)]
        platforms += [f"manylinux{year}_{arch}" for year in ("2014", "2010", "1")] + [f"linux_{arch}"]
    found = [*tags.cpython_tags(version, platforms=platforms)]
    found += tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)
    return {str(tag): number for number, tag in enumerate(found)}


def _rank(wheel: Mapping[str, Any], rank: Mapping[str, int]) -> int | None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        found = parse_wheel_filename(wheel.get("name") or posixpath.basename(wheel["url"]).replace("%2B", "+"))[3]
    except InvalidWheelFilename:
        return None
    return min((rank[str(tag)] for tag in found if str(tag) in rank), default=None)


def _cutoff_options(as_of: str | None, undated: Sequence[str]) -> list[str]:
    words = ["--exclude-newer", as_of] if as_of else []
    return words + [word for name in undated for word in ("--exclude-newer-package", f"{name}=false")]


def _notice(message: str) -> Event:
    return Event(kind=EventKind.NOTICE, message=message)
