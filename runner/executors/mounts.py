"""Builds the mount options of a container: folders under their own paths, and the volumes of docker_env."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.errors import ExecutionError
from runner.executors.contract import Sharing

MLFLOW_CODE_PATH = "/mlflow/projects/code"
"""The path of the project in images built by MLflow; commands may contain it."""
_VARIABLE = r"\$(?:\((pwd)\)|\{(\w+)\}|(\w+))|`(pwd)`"


def mount_options(sharing: Sharing, cwd: Path, volumes: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return the options that mount folders and volumes, one mount per target path.

    Raises:
        ExecutionError: the folder of a volume does not exist.
    """
    options = []
    targets = set()
    for volume in volumes:
        source, target, rest = _resolve(volume, sharing, cwd, environ)
        targets.add(target)
        options += ["--volume", ":".join([source, target, *rest] if source else [target])]
    folders = [(str(folder), str(folder)) for folder in dict.fromkeys(_outermost(sharing.folders))]
    for source, target in (*folders, (str(cwd), MLFLOW_CODE_PATH)):
        if target not in targets:
            options += ["--mount", f"type=bind,{_field('source', source)},{_field('target', target)}"]
    return options


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that are not inside another one of them."""
    every = list(folders)
    return [folder for folder in every if not any(other in folder.parents for other in every)]


def _field(name: str, path: str) -> str:
    """Return a field of ``--mount``, which is a line of CSV."""
    text = f"{name}={path}"
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if "," in path or '"' in path else text


def _resolve(volume: str, sharing: Sharing, cwd: Path, environ: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """Return source, target and options of a volume; a path alone is a new anonymous volume, as for docker."""
    source, colon, tail = _expand(volume, environ).partition(":")
    if not colon:
        return "", source, []
    target, *rest = tail.split(":")
    if "/" not in source and source not in (".", ".."):
        return source, target, rest  # a named volume of the engine
    return str(_volume_source(source, volume, sharing, cwd)), target, rest


def _expand(volume: str, environ: Mapping[str, str]) -> str:
    """Return a volume with variables and ``$(pwd)`` replaced: MLflow passes volumes through a shell."""

    def replace(match: re.Match[str]) -> str:
        command, braced, plain, quoted = match.groups()
        name = braced or plain or "PWD"
        if command or quoted or name == "PWD":
            return "."
        if name not in environ:
            raise ExecutionError(
                f"the volume '{volume}' names the variable {name}, which is not set", hint=f"Set it: `export {name}=…`"
            )
        return environ[name]

    expanded = re.sub(_VARIABLE, replace, volume)
    return os.path.expanduser(expanded) if expanded.startswith("~") else expanded  # noqa: PTH111  # no Path: it is more


def _volume_source(source: str, volume: str, sharing: Sharing, cwd: Path) -> Path:
    """Return the folder or file of this machine that a volume names.

    Paths in the repository and declared inputs are taken from the run folder; a missing folder of the repository is
    created there. All other paths are relative to the user's own project folder.

    Raises:
        ExecutionError: the path does not exist.
    """
    target = Path(os.path.normpath(cwd / source))
    if target.is_relative_to(sharing.repository) and not os.path.lexists(target):
        target.mkdir(parents=True)
    if target.exists() and any(target.is_relative_to(folder) for folder in sharing.folders):
        return target.resolve()
    if sharing.project is not None:
        target = Path(os.path.normpath(sharing.project / source))
    if not target.exists():
        raise ExecutionError(
            f"the folder of the volume '{volume}' does not exist: {target}",
            hint="Create the folder, or change `volumes` of docker_env; paths are relative to the project folder.",
        )
    return target
