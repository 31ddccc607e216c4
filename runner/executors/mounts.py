"""What a container sees of this machine's disk: folders under their own paths, and the volumes of docker_env."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.errors import ExecutionError
from runner.executors.contract import Sharing

PROJECT_PLACE = "/mlflow/projects/code"
"""Where images made by MLflow have the project; commands may name it."""
_VARIABLE = r"\$(?:\((pwd)\)|\{(\w+)\}|(\w+))|`(pwd)`"


def mount_words(sharing: Sharing, cwd: Path, volumes: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return the options that mount folders and volumes, each place once.

    Raises:
        ExecutionError: a folder of a volume is not there.
    """
    words = []
    places = set()
    for volume in volumes:
        source, place, rest = _resolve(volume, sharing, cwd, environ)
        places.add(place)
        words += ["--volume", ":".join([source, place, *rest] if source else [place])]
    folders = [(str(folder), str(folder)) for folder in dict.fromkeys(_outermost(sharing.folders))]
    for source, place in (*folders, (str(cwd), PROJECT_PLACE)):
        if place not in places:
            words += ["--mount", f"type=bind,{_field('source', source)},{_field('target', place)}"]
    return words


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that are not in another one of them."""
    every = list(folders)
    return [folder for folder in every if not any(other in folder.parents for other in every)]


def _field(name: str, path: str) -> str:
    """Return a field of ``--mount``, which is a line of CSV."""
    text = f"{name}={path}"
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if "," in path or '"' in path else text


def _resolve(volume: str, sharing: Sharing, cwd: Path, environ: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """Return what is mounted, where, and the options of a volume; a lone path is a new volume, as for docker."""
    source, colon, tail = _expand(volume, environ).partition(":")
    if not colon:
        return "", source, []
    place, *rest = tail.split(":")
    if "/" not in source and source not in (".", ".."):
        return source, place, rest  # a volume of the engine's, by its name
    return str(_find(source, volume, sharing, cwd)), place, rest


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


def _find(source: str, volume: str, sharing: Sharing, cwd: Path) -> Path:
    """Return the folder or file of this machine that a volume names.

    What lies in the repository, or was declared as an input, is that of the run folder, where a folder that is not
    there is made. The rest is the user's own, relative to the project.
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
            f"the volume '{volume}' is not there: {place}",
            hint="Make the folder, or change `volumes` of docker_env; relative paths are those of the project.",
        )
    return place
