"""Where the artifacts are that a store of MLflow names: in a folder of this machine, or elsewhere."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
PROXIED = "mlflow-artifacts"
_LEVELS = 3
"""Folders above that of a run's artifacts: those of the run, of the experiment and of all."""


def find_folder(uri: str, owner: str, bases: Sequence[Path], proxied: Path | None = None) -> Path | None:
    """Return the folder of the artifacts of a run or model on this machine, or None where there is none.

    The id of the owner must be one of the folders on the way: MLflow's folders are made so, and a store from somewhere
    else can't name just any folder of this machine.

    Args:
        uri: what the store says.
        owner: the id of the run or model.
        bases: where relative paths may begin.
        proxied: the folder behind the artifact proxy of the server that the store was used by.
    """
    return next((place for place in _candidates(uri, bases, proxied) if _is_of(place, owner)), None)


def is_elsewhere(uri: str) -> bool:
    """Say whether a URI is of a kind that clients reach without us: object stores and the like."""
    return bool(_SCHEME.match(uri)) and urlsplit(uri).scheme not in ("file", PROXIED)


def is_missing(uri: str, bases: Sequence[Path], proxied: Path | None = None) -> bool:
    """Say whether artifacts whose folder is not here may have been lost: nothing of the whole store of them is here.

    A run that logged no artifact has no folder, but the folder of its experiment's neighbours is there.
    """
    return not any(_is_folder(above) for place in _candidates(uri, bases, proxied) for above in place.parents[:_LEVELS])


def _is_of(place: Path, owner: str) -> bool:
    """Say whether a folder is there and is the owner's: below a folder of its id, with no link from there on."""
    if owner not in place.parts or ".." in place.parts or not _is_folder(place):
        return False
    below = len(place.parts) - place.parts.index(owner)
    return not any(folder.is_symlink() for folder in (place, *place.parents)[:below])


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):  # too long, or characters that no path has
        return False


def _candidates(uri: str, bases: Sequence[Path], proxied: Path | None) -> list[Path]:
    if not _SCHEME.match(uri):
        return [Path(uri)] if uri.startswith("/") else [base / uri for base in bases]
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.scheme == PROXIED:
        return [proxied / path.lstrip("/")] if proxied else []
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return []
    return [Path(path)] if path.startswith("/") else [base / path for base in bases]
