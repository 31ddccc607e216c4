"""Solves and installs conda packages with the user's conda, mamba or micromamba."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import Struct

from runner.base.foreign_text import LARGE, ForeignTextError, parse_json
from runner.environments.model import CondaRequest
from runner.environments.resolve.conda.channels import channels_of
from runner.environments.resolve.conda.protocol import CondaPackage, Installed, Solved
from runner.environments.resolve.uv_command import DROPPED, clean_cwd, command_error
from runner.environments.specs import CondaFile
from runner.errors import EnvironmentSetupError
from runner.process import Completed, capture
from runner.settings import Home
from runner.urls import without_channel_credentials

VARIABLE = "PROJ_CONDA_EXE"
"""The environment variable with the executable, as a name or path."""
SCRIPTS = ("-post-link.sh", "-post-link.bat")


def find_executable(environ: Mapping[str, str]) -> str | None:
    """Return the path of the executable that the user configured, None if there is none.

    Raises:
        EnvironmentSetupError: the configured program does not exist.
    """
    named = environ.get(VARIABLE)
    found = shutil.which(named, path=environ.get("PATH")) if named else None
    if named and not found:
        raise EnvironmentSetupError(f"{VARIABLE} is '{named}', and there is no such program")
    return found


def lock_with_conda_lock(request: CondaRequest, file: CondaFile, platforms: Sequence[str], log: Path) -> str | None:
    """Return the lock that conda-lock makes of a file; None if it is not installed or no executable is configured.

    Raises:
        EnvironmentSetupError: conda-lock fails.
    """
    executable = find_executable(request.environ)
    program = shutil.which("conda-lock", path=request.environ.get("PATH")) if executable else None
    if not executable or not program:
        return None
    own = {name: value for name, value in request.environ.items() if name not in DROPPED}
    with TemporaryDirectory(prefix="proj-") as temporary:
        (Path(temporary) / "environment.yml").write_text(file.text, encoding="utf-8")
        arguments = [word for name in platforms for word in ("--platform", name)]
        done = capture(
            [program, "lock", "--conda", executable, "--file", "environment.yml", "--lockfile", "lock.yml", *arguments],
            cwd=Path(temporary),
            env=own,
        )
        if done.exit_code:
            raise command_error("conda-lock can't lock the environment", done, log)
        return without_channel_credentials((Path(temporary) / "lock.yml").read_text("utf-8"))


class CondaCommand(Struct, frozen=True, kw_only=True):
    """Solves and installs with an executable, which checks the digests of archives that it downloads."""

    home: Home
    environ: Mapping[str, str]
    channels: tuple[str, ...]
    platform: str
    executable: str

    @property
    def name(self) -> str:
        """The name of the program."""
        return Path(self.executable).stem

    @property
    def knows_dates(self) -> bool:
        """False: these tools cannot filter by upload date."""
        return False

    def usual_channels(self) -> tuple[str, ...]:
        """Return the names of the default channels."""
        return tuple(channel.name for channel in channels_of((), self.environ))

    def solve(self, specs: tuple[str, ...], as_of: str | None, log: Path, *, is_portable: bool = False) -> Solved:
        """Return the packages that satisfy specs.

        Raises:
            EnvironmentSetupError: the executable finds no solution.
        """
        del as_of, is_portable
        with TemporaryDirectory(prefix="proj-") as temporary:
            # With an empty cache the output has the digests of all packages, not only of those that are not downloaded.
            arguments = ["create", "--prefix", f"{temporary}/prefix", "--dry-run", "--json", "--override-channels"]
            for channel in channels_of(self.channels, self.environ):
                arguments += ["--channel", channel.address]
            done = self._run(
                *arguments, *specs, CONDA_PKGS_DIRS=f"{temporary}/packages", MAMBA_ROOT_PREFIX=f"{temporary}/root"
            )
        try:
            answer: dict[str, Any] = parse_json(done.stdout, LARGE)
            actions = answer["actions"]
            packages = tuple(_package(entry) for entry in actions.get("FETCH") or actions.get("LINK") or ())
        except (ForeignTextError, KeyError, TypeError, AttributeError) as error:
            raise command_error(f"{self.name} finds no set of conda packages", done, log) from error
        return Solved(packages=tuple(sorted(packages, key=lambda package: package.name)))

    def missing(self, packages: tuple[CondaPackage, ...]) -> int:
        """Return the number of packages, because the executable's cache is unknown."""
        return len(packages)

    def install(self, packages: tuple[CondaPackage, ...], prefix: Path, log: Path) -> Installed:
        """Create a prefix of packages and compare the digests that it records with the lock.

        Raises:
            EnvironmentSetupError: an archive can't be downloaded, or does not match the lock.
        """
        prefix.rmdir()  # some refuse a folder that exists, even an empty one
        with TemporaryDirectory(prefix="proj-") as temporary:
            file = Path(temporary) / "packages.txt"
            lines = [
                f"{self._request_url(package.url)}#{package.md5 or 'sha256:' + package.digest}" for package in packages
            ]
            file.write_text("\n".join(["@EXPLICIT", *lines, ""]), encoding="utf-8")
            file.chmod(0o600)
            done = self._run("create", "--prefix", prefix, "--file", file, "--yes", "--quiet")
        if done.exit_code:
            raise command_error(f"{self.name} can't install the conda packages of the lock", done, log)
        return Installed(fetched=len(packages), scripts=tuple(_checked(packages, prefix)))

    def evict(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return all names: the executable manages its own cache."""
        return names

    def _request_url(self, url: str) -> str:
        pairs = [(channel.name, channel.address) for channel in channels_of(self.channels, self.environ)]
        found = (address + url[len(name) :] for name, address in pairs if "://" in name and url.startswith(f"{name}/"))
        return next(found, url)

    def _run(self, *arguments: str | Path, **variables: str) -> Completed:
        own = {name: value for name, value in self.environ.items() if name not in DROPPED}
        # Copies, because linked files can be changed through the user's own environments.
        always = {"CONDA_SUBDIR": self.platform, "CONDA_ALWAYS_COPY": "true", "MAMBA_ALWAYS_COPY": "true"}
        return capture([self.executable, *arguments], cwd=clean_cwd(self.home), env={**own, **always, **variables})


def _package(entry: Mapping[str, Any]) -> CondaPackage:
    url = without_channel_credentials(entry["url"])
    stem = re.sub(r"\.(conda|tar\.bz2)$", "", url.rpartition("/")[2])
    return CondaPackage(
        name=entry["name"],
        version=entry["version"],
        build=stem.rpartition("-")[2],
        url=url,
        md5=entry.get("md5"),
        sha256=entry.get("sha256"),
        depends=tuple(entry.get("depends") or ()),
    )


def _checked(packages: tuple[CondaPackage, ...], prefix: Path) -> list[str]:
    """Return the packages with scripts.

    Raises:
        EnvironmentSetupError: an installed package does not match the lock.
    """
    scripts = []
    for package in packages:
        path = prefix / "conda-meta" / f"{package.name}-{package.version}-{package.build}.json"
        meta = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
        expected = {"md5": package.md5, "sha256": package.sha256}
        if not meta or any(value and meta.get(key, value) != value for key, value in expected.items()):
            raise EnvironmentSetupError(f"{package.file_name} as installed does not match the lock")
        scripts += [package.name] if any(name.endswith(SCRIPTS) for name in meta.get("files", ())) else []
    return scripts
