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
    words = []
    targets = set()
    for volume in volumes:
        source, place, rest = _resolve(volume, sharing, cwd, environ)
        targets.add(place)
        words += ["--volume", ":".join([source, place, *rest] if source else [place])]
    folders = [(str(folder), str(folder)) for folder in dict.fromkeys(_outermost(sharing.folders))]
    for source, place in (*folders, (str(cwd), MLFLOW_CODE_PATH)):
        if place not in targets:
            words += ["--mount", f"type=bind,{_field('source', source)},{_field('target', place)}"]
    return words


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
    place, *rest = tail.split(":")
    if "/" not in source and source not in (".", ".."):
        return source, place, rest  # a named volume of the engine
    return str(_volume_source(source, volume, sharing, cwd)), place, rest


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
    place = Path(os.path.normpath(cwd / source))
    if place.is_relative_to(sharing.repository) and not os.path.lexists(place):
        place.mkdir(parents=True)
    if place.exists() and any(place.is_relative_to(folder) for folder in sharing.folders):
        return place.resolve()
    if sharing.project is not None:
        place = Path(os.path.normpath(sharing.project / source))
    if not place.exists():
        raise ExecutionError(
            f"the folder of the volume '{volume}' does not exist: {place}",
            hint="Create the folder, or change `volumes` of docker_env; paths are relative to the project folder.",
        )
    return place
