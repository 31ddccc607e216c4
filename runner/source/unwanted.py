"""What is never part of a project, whatever git says: environments, caches, run stores."""

import os
from fnmatch import fnmatch

ENVIRONMENT_MARKS = (b"pyvenv.cfg", b"conda-meta")
"""What lies in the top folder of an environment."""

FOLDERS = frozenset(
    name.encode()
    for name in (
        *(".tox", ".nox", ".pixi", "__pypackages__", "node_modules"),
        *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".eggs"),
        *("mlruns", "mlartifacts", ".guild", ".aim", ".git"),
    )
)
"""Environments, caches and run stores by the name of their folder."""

FILES = ("*.pyc", "mlflow.db", "mlflow.db-*", ".DS_Store")
"""Caches and run stores that are files."""

INSIDE = ((b".dvc", b"cache"), (b".dvc", b"tmp"))
"""Folders that are caches by the name of the folder that they are in."""


def is_unwanted_folder(path: bytes) -> bool:
    """Say whether a folder is an environment, a cache or a run store by its name."""
    parent, name = os.path.split(path)
    return name in FOLDERS or (os.path.basename(parent), name) in INSIDE  # noqa: PTH119  # bytes have no Path


def is_environment(names: frozenset[bytes]) -> bool:
    """Say whether a folder with these names in it is an environment."""
    return any(mark in names for mark in ENVIRONMENT_MARKS)


def is_unwanted_file(name: bytes) -> bool:
    """Say whether a file is a cache or a run store by its name."""
    return any(fnmatch(os.fsdecode(name), pattern) for pattern in FILES)


def exclusions() -> tuple[str, ...]:
    """Return the same as options of ``git ls-files``; they apply to files that are not tracked only."""
    folders = tuple(f"--exclude={os.fsdecode(name)}/" for name in sorted(FOLDERS) if name != b".git")
    inside = tuple(f"--exclude=**/{os.fsdecode(outer)}/{os.fsdecode(inner)}/" for outer, inner in INSIDE)
    return (*folders, *inside, *(f"--exclude={pattern}" for pattern in FILES))
