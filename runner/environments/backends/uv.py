"""The `uv` backend: installs locks with uv."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec import structs

from runner.base.files import can_clone
from runner.base.lazy import LazyModule
from runner.base.package_names import canonical_name
from runner.environments.backends.python_backend import PythonBackend, cutoff_options, uv_for
from runner.environments.cache.checksums import CachedPackage
from runner.environments.model import Lock, PythonRequest
from runner.urls import with_credentials

if TYPE_CHECKING:
    from runner.environments.declare import requirements
    from runner.environments.resolve import uv_command
else:
    requirements = LazyModule("runner.environments.declare.requirements")
    uv_command = LazyModule("runner.environments.resolve.uv_command")


PIN = re.compile(r"(?m)^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")


class UvBackend(PythonBackend):
    """Environments built by uv: fast, for Python 3.6 and newer."""

    name: ClassVar[str] = "uv"

    def install(self, request: PythonRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Create a prefix with exactly the packages of the lock."""
        uv, cwd = uv_for(request), uv_command.clean_cwd(request.home)
        done = uv.run(
            *("venv", "--no-project", "--no-python-downloads", "--prompt", prefix.parent.name),
            *("--python", lock.interpreter.path, prefix),
            cwd=cwd,
        )
        if done.exit_code:
            raise uv_command.command_error(
                f"An environment with Python {lock.interpreter.name} can't be made", done, log
            )
        if not lock.text.strip():
            return
        lines = [*uv.index.lines, with_credentials(lock.text, request.spec.requirements)]
        with uv_command.requirements_file(lines, "requirements.txt") as file:
            done = uv.work(
                *("pip", "sync", file, "--python", prefix / "bin" / "python", "--link-mode", self._link_mode(request)),
                *("--allow-empty-requirements", *cutoff_options(lock), *uv.index.arguments),
                cwd=cwd,
            )
        if done.exit_code and (uv.is_offline or uv_command.UNREACHABLE.search(done.error_text)):
            raise uv_command.command_error(_missing_packages_message(uv, lock, prefix, cwd), done, log)
        if done.exit_code:
            raise uv_command.command_error("The packages of the lock can't be installed", done, log)

    def _link_mode(self, request: PythonRequest) -> str:
        return "clone" if can_clone(uv_command.clean_cwd(request.home)) else "hardlink"

    def _sources(self, request: PythonRequest, lock: Lock) -> Iterable[CachedPackage] | None:
        if self._link_mode(request) != "hardlink":
            return None
        return uv_archives(Path(uv_for(request).variables["UV_CACHE_DIR"]), lock.text)


def uv_archives(cache: Path, lock: str) -> Iterator[CachedPackage]:
    """Yield the unpacked wheels in uv's cache with a name and version of a lock."""
    wanted = {(canonical_name(match["name"]), match["version"]) for match in PIN.finditer(lock)}
    for folder in cache.glob("archive-v*/*"):
        for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208  # a thousand times
            stem, dot, ending = name.rpartition(".")
            package, _, version = stem.partition("-")
            if dot and ending == "dist-info" and (canonical_name(package), version) in wanted:
                yield CachedPackage(name, folder)
                break


def _missing_packages_message(uv: "uv_command.Uv", lock: Lock, prefix: Path, cwd: Path) -> str:
    """Return a message with the packages of a lock that are not cached; each is tried without a network."""
    offline = structs.replace(uv, variables={**uv.variables, "UV_OFFLINE": "1"})
    missing = []
    for line in requirements.logical_lines(lock.text):
        with uv_command.requirements_file([*uv.index.lines, line.text]) as file:
            command = ("pip", "install", "--dry-run", "--no-deps", "--python", prefix / "bin" / "python", "-r", file)
            if not line.text.startswith("-") and offline.run(*command, *uv.index.arguments, cwd=cwd).exit_code:
                missing.append(re.split(r"[\s;]", line.text, maxsplit=1)[0])
    names = ", ".join(missing) or "all that the lock names"
    return f"Without a network the packages of the lock can't be installed; not cached: {names}"
