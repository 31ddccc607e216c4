"""The member that installs with uv."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec import structs

from runner.base.lazy import LazyModule
from runner.environments.backends.python_backend import BIN, PythonBackend, cutoff_options, uv_for
from runner.environments.cache.checksums import Source
from runner.environments.model import EnvironmentRequest, Lock
from runner.urls import with_credentials

if TYPE_CHECKING:
    from runner.environments.cache import reflinks
    from runner.environments.declare import requirements
    from runner.environments.repair import import_names
    from runner.environments.resolve import uv_command
else:
    import_names = LazyModule("runner.environments.repair.import_names")
    reflinks = LazyModule("runner.environments.cache.reflinks")
    requirements = LazyModule("runner.environments.declare.requirements")
    uv_command = LazyModule("runner.environments.resolve.uv_command")


PIN = re.compile(r"(?m)^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")


class UvBackend(PythonBackend):
    """Environments made by uv: fast, for Python 3.6 and newer."""

    name: ClassVar[str] = "uv"

    def install(self, request: EnvironmentRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Make a prefix with exactly what the lock says."""
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
                *("pip", "sync", file, "--python", prefix / BIN / "python", "--link-mode", self._link_mode(request)),
                *("--allow-empty-requirements", *cutoff_options(lock), *uv.index.words),
                cwd=cwd,
            )
        if done.exit_code and (uv.is_offline or uv_command.UNREACHABLE.search(done.error_text)):
            raise uv_command.command_error(_name_missing(uv, lock, prefix, cwd), done, log)
        if done.exit_code:
            raise uv_command.command_error("The packages of the lock can't be installed", done, log)

    def _link_mode(self, request: EnvironmentRequest) -> str:
        return "clone" if reflinks.can_reflink(uv_command.clean_cwd(request.home)) else "hardlink"

    def _sources(self, request: EnvironmentRequest, lock: Lock) -> Iterable[Source] | None:
        if self._link_mode(request) != "hardlink":
            return None
        return uv_archives(Path(uv_for(request).variables["UV_CACHE_DIR"]), lock.text)


def uv_archives(cache: Path, lock: str) -> Iterator[Source]:
    """Yield the unpacked wheels in uv's cache that are of packages and versions of a lock."""
    wanted = {(import_names.normalise(match["name"]), match["version"]) for match in PIN.finditer(lock)}
    for folder in cache.glob("archive-v*/*"):
        for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208  # a thousand times
            stem, dot, ending = name.rpartition(".")
            package, _, version = stem.partition("-")
            if dot and ending == "dist-info" and (import_names.normalise(package), version) in wanted:
                yield Source(name, folder)
                break


def _name_missing(uv: "uv_command.Uv", lock: Lock, prefix: Path, cwd: Path) -> str:
    """Say which packages of a lock are not cached, by asking for one after the other without a network."""
    offline = structs.replace(uv, variables={**uv.variables, "UV_OFFLINE": "1"})
    missing = []
    for line in requirements.logical_lines(lock.text):
        with uv_command.requirements_file([*uv.index.lines, line.text]) as file:
            words = ("pip", "install", "--dry-run", "--no-deps", "--python", prefix / BIN / "python", "-r", file)
            if not line.text.startswith("-") and offline.run(*words, *uv.index.words, cwd=cwd).exit_code:
                missing.append(re.split(r"[\s;]", line.text, maxsplit=1)[0])
    names = ", ".join(missing) or "all that the lock names"
    return f"Without a network the packages of the lock can't be installed; not cached: {names}"
