"""What is never part of a project, whatever git says: environments, caches, run stores."""

import os
from fnmatch import fnmatch

ENVIRONMENT_MARKS = (b"pyvenv.cfg", b"conda-meta")
"""What lies in the top folder of an environment."""

CACHES = frozenset(
    (
        *(b".tox", b".nox", b".pixi", b"__pypackages__", b"node_modules"),
        *(
            b"__pycache__",
            b".pytest_cache",
            b".mypy_cache",
            b".ruff_cache",
            b".hypothesis",
            b".ipynb_checkpoints",
            b".eggs",
        ),
    )
)
"""Caches, and environments without a mark, by the name of their folder."""

STORES = frozenset((b"mlruns", b"mlartifacts", b".guild", b".aim"))
"""Stores of runs by the name of their folder."""

FILES = ("*.pyc", "mlflow.db", "mlflow.db-*", ".DS_Store")
"""Caches and run stores that are files."""

INSIDE = ((b".dvc", b"cache"), (b".dvc", b"tmp"))
"""Caches by the name of their folder and of the one that it is in."""


def is_unwanted_folder(path: bytes) -> bool:
    """Say whether a folder is a repository's own, an environment, a cache or a run store, by its name."""
    outer, name = path.rpartition(b"/")[::2]
    return name == b".git" or name in CACHES or name in STORES or (outer.rpartition(b"/")[2], name) in INSIDE


def is_unwanted_file(path: bytes) -> bool:
    """Say whether a file is a cache or a run store by its name."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    return any(fnmatch(name, pattern) for pattern in FILES)


def exclusions() -> tuple[str, ...]:
    """Return the same as options of ``git ls-files``; they apply to files that are not tracked only."""
    folders = tuple(f"--exclude={os.fsdecode(name)}/" for name in sorted(CACHES | STORES))
    inside = tuple(f"--exclude=**/{os.fsdecode(outer)}/{os.fsdecode(inner)}/" for outer, inner in INSIDE)
    return (*folders, *inside, *(f"--exclude={pattern}" for pattern in FILES))
