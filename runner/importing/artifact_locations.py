"""Resolves the artifact URIs of an MLflow store to local folders."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
PROXIED = "mlflow-artifacts"
_LEVELS = 3
"""Parent folders of a run's artifact folder: the run's, the experiment's and the root."""


def find_folder(uri: str, owner: str, bases: Sequence[Path], proxied: Path | None = None) -> Path | None:
    """Return the local artifact folder of a run or model, or None if there is none.

    The id of the owner must be a component of the path. MLflow creates its folders this way, and the rule prevents a
    foreign store from naming any folder of this machine.

    Args:
        uri: the artifact URI in the store.
        owner: the id of the run or model.
        bases: the folders that relative paths are resolved against.
        proxied: the folder behind the artifact proxy of the server that used the store.
    """
    return next((candidate for candidate in _candidates(uri, bases, proxied) if _is_of(candidate, owner)), None)


def is_elsewhere(uri: str) -> bool:
    """Return whether clients access the URI without proj, such as an object store."""
    return bool(_SCHEME.match(uri)) and urlsplit(uri).scheme not in ("file", PROXIED)


def is_missing(uri: str, bases: Sequence[Path], proxied: Path | None = None) -> bool:
    """Return whether artifacts may be lost: their folder is missing, and so is the artifact root of the store.

    A run without artifacts has no folder either, but then the folders above it exist.
    """
    return not any(
        _is_folder(above) for candidate in _candidates(uri, bases, proxied) for above in candidate.parents[:_LEVELS]
    )


def _is_of(candidate: Path, owner: str) -> bool:
    """Return whether a folder exists and is below a folder with the owner's id, with no link below that folder."""
    if owner not in candidate.parts or ".." in candidate.parts or not _is_folder(candidate):
        return False
    below = len(candidate.parts) - candidate.parts.index(owner)
    return not any(folder.is_symlink() for folder in (candidate, *candidate.parents)[:below])


def _is_folder(candidate: Path) -> bool:
    try:
        return candidate.is_dir()
    except (OSError, ValueError):  # the path is too long or has invalid characters
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
