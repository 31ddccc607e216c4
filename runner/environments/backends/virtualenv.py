"""The `virtualenv` backend: installs locks with pip into an environment of virtualenv or venv."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from runner.base.lazy import LazyModule
from runner.environments.backends.python_backend import PythonBackend, cutoff_options, uv_for
from runner.environments.declare.indexes import expand
from runner.environments.model import Lock, PythonRequest
from runner.errors import EnvironmentSetupError
from runner.process import Completed, capture
from runner.urls import with_credentials

if TYPE_CHECKING:
    from runner.environments.resolve import uv_command
else:
    uv_command = LazyModule("runner.environments.resolve.uv_command")

TOOLS = ("pip", "setuptools", "wheel")
BUILD_TOOLS = (
    *("setuptools", "wheel", "cython", "numpy", "setuptools-scm", "pybind11", "cffi", "pbr", "cmake", "ninja"),
    *("scikit-build", "flit-core", "poetry-core", "hatchling", "meson", "meson-python", "packaging", "setuptools-rust"),
)
"""The build requirements of most packages that are built from source."""


class VirtualenvBackend(PythonBackend):
    """Environments built by virtualenv and pip: slower than uv, with the same result from the same lock."""

    name: ClassVar[str] = "virtualenv"

    def install(self, request: PythonRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Create a prefix with exactly the packages of the lock."""
        self._create(request, lock, prefix, log)
        python = prefix / "bin" / "python"
        text = with_credentials(lock.text, request.spec.requirements)
        if text.strip() and request.environ.get("UV_OFFLINE"):
            raise EnvironmentSetupError(
                "The network is off, and pip keeps no packages that it could install without it",
                hint="'--env-manager uv' installs what is cached.",
            )
        hashed, bare = _split(text)
        bounds = build_bounds(request, lock)
        options = [expand(option) for option in request.spec.options if not option.startswith("--pre")]
        for blocks, arguments in ((hashed, ["--require-hashes"]), (bare, [])):
            if blocks:
                with uv_command.requirements_file([*options, *blocks], "requirements.txt") as file:
                    variables = _bounded(file.parent, bounds)
                    install: tuple[str | Path, ...] = ("install", "--no-deps", "--no-compile", *arguments, "-r", file)
                    done = _pip(request, python, *install, variables=variables)
                if done.exit_code:
                    raise uv_command.command_error("The packages of the lock can't be installed", done, log)
        self._remove_tools(request, python, text)

    def _create(self, request: PythonRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Create the environment with virtualenv, or with venv for a Python that virtualenv no longer supports."""
        python, env = lock.interpreter.path, _variables(request)
        made: list[list[str | Path]] = [
            [sys.executable, "-m", "virtualenv", "--no-download", "--python", python, prefix],
            [python, "-m", "venv", "--clear", prefix],
        ]
        done = capture(made[0], cwd=uv_command.clean_cwd(request.home), env=env)
        if done.exit_code:
            done = capture(made[1], cwd=uv_command.clean_cwd(request.home), env=env)
        if done.exit_code:
            raise uv_command.command_error(
                f"An environment with Python {lock.interpreter.name} can't be made", done, log
            )

    def _remove_tools(self, request: PythonRequest, python: Path, text: str) -> None:
        """Remove the tools of a new environment that are not in the lock; pip last, because it removes the others."""
        locked = set(re.findall(r"(?m)^([\w.-]+)(?:==| @)", text))
        for tool in reversed(TOOLS):
            if tool not in locked:
                _pip(request, python, "uninstall", "--yes", tool)


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the requirements with hashes, and those of repositories, which have none."""
    blocks = [block for block in re.split(r"\n(?=\S)", text.strip()) if block and not block.startswith("#")]
    bare = [block for block in blocks if "--hash=" not in block and not block.startswith("--")]
    return [block for block in blocks if block not in bare], bare


def _pip(
    request: PythonRequest, python: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> Completed:
    argv = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return uv_command.run_installer(
        argv, uv_command.clean_cwd(request.home), {**_variables(request), **(variables or {})}, request.report
    )


def build_bounds(request: PythonRequest, lock: Lock) -> tuple[str, ...]:
    """Return upper bounds of build tools at the cutoff date of a lock, for packages that are built from source.

    They are bounds, not pins, because pins could contradict the requirements of the packages. Packages of the lock are
    left out because pip applies constraints to them too.
    """
    if not lock.as_of:
        return ()
    locked = {name.lower() for name in re.findall(r"(?m)^([\w.-]+)==", lock.text)}
    names = [name for name in BUILD_TOOLS if name not in locked]
    uv = uv_for(request)
    for _ in BUILD_TOOLS:
        with uv_command.requirements_file([*uv.index.lines, *names], "build.in") as file:
            done = uv.run(
                *("pip", "compile", file, "--no-deps", "--no-header", "--no-annotate", "--no-python-downloads"),
                *("--python", lock.interpreter.path, *cutoff_options(lock), *uv.index.arguments),
                cwd=uv_command.clean_cwd(request.home),
            )
        # A tool that is newer than the lock needs no bound.
        unknown = re.findall(r"you require ([\w.-]+\w)", done.error_text) if done.exit_code else []
        if not set(unknown) & set(names):
            break
        names = [name for name in names if name not in unknown]
    found = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", done.text)
    return tuple(f"{name}<={version}" for name, version in found)


def _bounded(folder: Path, bounds: Sequence[str]) -> dict[str, str]:
    """Write the bounds to a file and return the variables by which old and new versions of pip apply them to builds."""
    if not bounds:
        return {}
    file = folder / "build.txt"
    file.write_text("".join(f"{bound}\n" for bound in bounds), encoding="utf-8")
    return {"PIP_CONSTRAINT": str(file), "PIP_BUILD_CONSTRAINT": str(file)}


def _variables(request: PythonRequest) -> dict[str, str]:
    ours = {name: value for name, value in request.environ.items() if name not in uv_command.DROPPED}
    return {**ours, "PIP_NO_WARN_SCRIPT_LOCATION": "1", "PYTHONDONTWRITEBYTECODE": "1"}
