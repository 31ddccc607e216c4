"""The member that installs with uv."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec import structs

from runner.environments.python_backend import BIN, PythonBackend, cut_words, uv_for
from runner.environments.words import EnvironmentRequest, Lock
from runner.lazy import LazyModule
from runner.urls import with_credentials

if TYPE_CHECKING:
    from runner.environments import reflinks, requirements, uv_command
else:
    reflinks = LazyModule("runner.environments.reflinks")
    requirements = LazyModule("runner.environments.requirements")
    uv_command = LazyModule("runner.environments.uv_command")


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
            raise uv_command.complain(f"An environment with Python {lock.interpreter.name} can't be made", done, log)
        if not lock.text.strip():
            return
        lines = [*uv.index.lines, with_credentials(lock.text, request.spec.requirements)]
        with uv_command.requirements_file(lines, "requirements.txt") as file:
            done = uv.work(
                *("pip", "sync", file, "--python", prefix / BIN / "python", "--link-mode", self._link_mode(request)),
                *("--allow-empty-requirements", *cut_words(lock), *uv.index.words),
                cwd=cwd,
            )
        if done.exit_code and (uv.is_offline or uv_command.UNREACHABLE.search(done.complaint)):
            raise uv_command.complain(_name_missing(uv, lock, prefix, cwd), done, log)
        if done.exit_code:
            raise uv_command.complain("The packages of the lock can't be installed", done, log)

    def _link_mode(self, request: EnvironmentRequest) -> str:
        if sys.platform == "win32":
            return "copy"
        return "clone" if reflinks.can_reflink(uv_command.clean_cwd(request.home)) else "hardlink"

    def _shares_files(self, request: EnvironmentRequest) -> bool:
        return self._link_mode(request) == "hardlink"


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
