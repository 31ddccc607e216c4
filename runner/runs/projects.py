"""Finds the project of a folder, as its runs are recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.tags import REMOTE_TAG, SOURCE_NAME_TAG, SUBDIRECTORY_TAG
from runner.errors import ProjError
from runner.runs.reader import ProjectScope

if TYPE_CHECKING:
    from runner.source import checkouts
else:
    checkouts = LazyModule("runner.source.checkouts")

_MANIFESTS = ("MLproject", "MLProject", "mlproject", "MLPROJECT")
"""The usual spellings; listing whole folders takes too long in large ones."""


def find_project(folder: Path) -> ProjectScope | None:
    """Return the project that a folder is in, or None if the folder no longer exists.

    It is the nearest folder with a manifest, at most the top of the git repository; without a manifest the top of the
    repository, or the folder itself.
    """
    try:
        here = folder.resolve(strict=True)
        above = [here, *here.parents]
        is_in_git = any((one / ".git").exists() for one in above)
        checkout = checkouts.find_checkout(here) if is_in_git else None
        if checkout is not None:
            above = above[: above.index(checkout.root) + 1]
        top = next((one for one in above if _has_manifest(one)), None)
    except OSError:
        return None
    if checkout is None:
        return ProjectScope(source=str(top or here), is_certain=top is not None)
    subdirectory = "" if top is None else top.relative_to(checkout.root).as_posix()
    subdirectory = "" if subdirectory == "." else subdirectory
    try:
        remote = checkouts.read_remote(checkout.git_directory)
    except ProjError:  # git is missing or does not respond: the path decides alone
        remote = None
    return ProjectScope(
        source=f"file://{checkout.root}" + (f"#{subdirectory}" if subdirectory else ""),
        remote=remote,
        subdirectory=subdirectory,
        is_certain=top is not None,
    )


def is_of_project(tags: Mapping[str, str], project: ProjectScope) -> bool:
    """Return whether the tags of a run name this project or a part of it."""
    source, separator = tags.get(SOURCE_NAME_TAG, ""), separator_of(project)
    if source == project.source or source.startswith(f"{project.source}{separator}"):
        return True
    folder, own = tags.get(SUBDIRECTORY_TAG, ""), project.subdirectory
    is_inside = not own or folder == own or folder.startswith(f"{own}/")
    return project.remote is not None and tags.get(REMOTE_TAG) == project.remote and is_inside


def project_condition(project: ProjectScope) -> list[str]:
    """Return the conditions in MLflow's search language that most runs of other projects do not meet."""
    if project.remote is not None:
        tag, value, operator = REMOTE_TAG, project.remote, "="
    else:
        tag, value, operator = SOURCE_NAME_TAG, f"{project.source}%", "LIKE"
    quote = "'" if "'" not in value else '"'
    return [] if quote in value else [f"tags.`{tag}` {operator} {quote}{value}{quote}"]


def separator_of(project: ProjectScope) -> str:
    """Return the character that separates a project's source from a folder inside it."""
    # In a repository, sources are file:///folder#subdirectory; otherwise they are paths.
    return "#" if "://" in project.source and "#" not in project.source else "/"


def _has_manifest(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MANIFESTS)
