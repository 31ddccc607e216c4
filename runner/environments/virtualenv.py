"""The member that installs with pip into what virtualenv or the standard library's venv made."""

import re
import sys
from pathlib import Path
from typing import ClassVar

from runner.environments.indexes import expand, with_credentials
from runner.environments.python_backend import BIN, PythonBackend
from runner.environments.uv_command import DROPPED, clean_cwd, complain, requirements_file
from runner.environments.words import EnvironmentRequest, Lock
from runner.errors import EnvironmentSetupError
from runner.process import Completed, capture

TOOLS = ("pip", "setuptools", "wheel")


class VirtualenvBackend(PythonBackend):
    """Environments made by virtualenv and pip: slower than uv, the same result from the same lock."""

    name: ClassVar[str] = "virtualenv"

    def install(self, request: EnvironmentRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Make a prefix with exactly what the lock says."""
        self._create(request, lock, prefix, log)
        python = prefix / BIN / "python"
        text = with_credentials(lock.text, request.spec.requirements)
        if text.strip() and request.environ.get("UV_OFFLINE"):
            raise EnvironmentSetupError(
                "The network is off, and pip keeps no packages that it could install without it",
                hint="'--env-manager uv' installs what is cached.",
            )
        hashed, bare = _split(text)
        options = [expand(option) for option in request.spec.options if not option.startswith("--pre")]
        for blocks, words in ((hashed, ["--require-hashes"]), (bare, [])):
            if blocks:
                with requirements_file([*options, *blocks], "requirements.txt") as file:
                    done = _pip(request, python, "install", "--no-deps", "--no-compile", *words, "-r", file)
                if done.exit_code:
                    raise complain("The packages of the lock can't be installed", done, log)
        self._remove_tools(request, python, text)

    def _create(self, request: EnvironmentRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Make the environment with virtualenv, or with venv for a Python that virtualenv knows no more."""
        python, env = lock.interpreter.path, _variables(request)
        made: list[list[str | Path]] = [
            [sys.executable, "-m", "virtualenv", "--no-download", "--python", python, prefix],
            [python, "-m", "venv", "--clear", prefix],
        ]
        done = capture(made[0], cwd=clean_cwd(request.home), env=env)
        if done.exit_code:
            done = capture(made[1], cwd=clean_cwd(request.home), env=env)
        if done.exit_code:
            raise complain(f"An environment with Python {lock.interpreter.name} can't be made", done, log)

    def _remove_tools(self, request: EnvironmentRequest, python: Path, text: str) -> None:
        """Remove what the new environment brought and the lock does not have; pip last, as it does the work."""
        locked = set(re.findall(r"(?m)^([\w.-]+)(?:==| @)", text))
        for tool in reversed(TOOLS):
            if tool not in locked:
                _pip(request, python, "uninstall", "--yes", tool)


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the requirements with hashes, and those from a repository, which have none."""
    blocks = [block for block in re.split(r"\n(?=\S)", text.strip()) if block and not block.startswith("#")]
    bare = [block for block in blocks if "--hash=" not in block and not block.startswith("--")]
    return [block for block in blocks if block not in bare], bare


def _pip(request: EnvironmentRequest, python: Path, *words: str | Path) -> Completed:
    argv = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    return capture(argv, cwd=clean_cwd(request.home), env=_variables(request))


def _variables(request: EnvironmentRequest) -> dict[str, str]:
    ours = {name: value for name, value in request.environ.items() if name not in DROPPED}
    return {**ours, "PIP_NO_WARN_SCRIPT_LOCATION": "1", "PYTHONDONTWRITEBYTECODE": "1"}
