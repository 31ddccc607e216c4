"""Locks and installs the pip part of a conda environment with uv."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from runner.base.foreign_text import parse_toml
from runner.base.package_names import canonical_name
from runner.environments.declare.conda.names import PYTHON_NAMES
from runner.environments.declare.indexes import expand, index_options
from runner.environments.declare.source_trees import copy_packages
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

if TYPE_CHECKING:
    from packaging.pylock import Package
    from packaging.tags import Tag

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
        locked = pip_packages(parse_toml(done.stdout), python, self._platform)
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
                *("pip", "install", "--no-deps", "--requirements", file, "--python", prefix / "bin" / "python"),
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

    def _compile(self, python: str, options: Sequence[str], given: Mapping[str, str]) -> Completed:
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
                *(*options, *self._uv.index.arguments),
                cwd=clean_cwd(self._request.home),
            )

    def _local(self, temporary: Path) -> Iterator[str]:
        packages = self._spec.local_packages
        if packages and self._request.tree is not None:
            copies = copy_packages(self._request.tree, packages, temporary)
            for package, copy in zip(packages, copies, strict=True):
                yield f"{copy}[{','.join(package.extras)}]" if package.extras else str(copy)


def _conda_versions(packages: Sequence[CondaPackage]) -> dict[str, str]:
    """Return the Python packages among conda's packages: name on the Python index and version."""
    of_python = [
        package for package in packages if any(re.match(r"python(_abi)?(\s|$)", depend) for depend in package.depends)
    ]
    names = {package: canonical_name(package.name) for package in of_python}
    plain = {PYTHON_NAMES.get(name, name).partition(" ")[0].partition("[")[0]: item for item, name in names.items()}
    return {name: item.version for name, item in plain.items() if re.fullmatch(r"[\d.]+([a-z]+\d+)?", item.version)}


def pip_packages(pylock: Mapping[str, Any], python: str, platform: str) -> list[PipPackage]:
    """Return the packages of a ``pylock.toml`` with their best files for a Python on a platform.

    Raises:
        EnvironmentSetupError: it is not valid, or a package has no file with a digest.
    """
    from packaging.pylock import Pylock, PylockValidationError

    tags = _tags(python, platform)
    try:
        packages = Pylock.from_dict(pylock).packages
    except PylockValidationError as error:
        raise EnvironmentSetupError(f"the resolution of the pip part is not valid: {error}") from error
    return [found for package in packages if (found := _pip_package(package, tags))]


def _pip_package(package: "Package", tags: Sequence["Tag"]) -> PipPackage | None:
    """Return a package with its best file; None for one of the project's own packages."""
    from packaging.tags import create_compatible_tags_selector
    from packaging.utils import parse_wheel_filename

    name, version = package.name, str(package.version or "")
    if vcs := package.vcs:
        below = f"#subdirectory={vcs.subdirectory}" if vcs.subdirectory else ""
        source = f"{vcs.type}+{without_credentials(vcs.url or '')}@{vcs.commit_id}{below}"
        return PipPackage(name=name, version=version, url=source, source=source)
    if archive := package.archive:
        url = without_credentials(archive.url or "")
        digest = archive.hashes.get("sha256")
        return PipPackage(name=name, version=version, url=url, sha256=digest, source=url) if url else None
    if not version:
        return None
    wheels = create_compatible_tags_selector(tags)(
        (wheel, parse_wheel_filename(wheel.filename)[-1]) for wheel in package.wheels or ()
    )
    file = next(wheels, None) or package.sdist
    if file is None or "sha256" not in file.hashes:
        raise EnvironmentSetupError(f"the package index has no file with a digest for {name} {version}")
    url = without_credentials(file.url or file.filename)
    return PipPackage(name=name, version=version, url=url, sha256=file.hashes["sha256"])


def _tags(python: str, platform: str) -> list["Tag"]:
    """Return the wheel tags that are compatible with a Python on a platform, the best first."""
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
    found = tags.cpython_tags(version, platforms=platforms)
    return [*found, *tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)]


def _cutoff_options(as_of: str | None, undated: Sequence[str]) -> list[str]:
    options = ["--exclude-newer", as_of] if as_of else []
    return options + [word for name in undated for word in ("--exclude-newer-package", f"{name}=false")]


def _notice(message: str) -> Event:
    return Event(kind=EventKind.NOTICE, message=message)
