"""Defines files that are never part of a project: environments, caches and run stores."""

import os
from fnmatch import fnmatch

ENVIRONMENT_MARKS = (b"pyvenv.cfg", b"conda-meta")
"""Entries of the top folder of an environment."""

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
"""Folder names of caches, and of environments without a mark."""

STORES = frozenset((b"mlruns", b"mlartifacts", b".guild", b".aim"))
"""Folder names of run stores."""

FILES = ("*.pyc", "mlflow.db", "mlflow.db-*", ".DS_Store")
"""File name patterns of caches and run stores."""

INSIDE = ((b".dvc", b"cache"), (b".dvc", b"tmp"))
"""Caches by the names of the outer and the inner folder."""


def is_unwanted_folder(path: bytes) -> bool:
    """Tell by its name whether a folder is a git directory, a cache or a run store."""
    outer, name = path.rpartition(b"/")[::2]
    return name == b".git" or name in CACHES or name in STORES or (outer.rpartition(b"/")[2], name) in INSIDE


def is_unwanted_file(path: bytes) -> bool:
    """Tell by its name whether a file is a cache or a run store."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    return any(fnmatch(name, pattern) for pattern in FILES)


def exclusions() -> tuple[str, ...]:
    """Return the rules as options of ``git ls-files``, which apply to untracked files only."""
    folders = tuple(f"--exclude={os.fsdecode(name)}/" for name in sorted(CACHES | STORES))
    inside = tuple(f"--exclude=**/{os.fsdecode(outer)}/{os.fsdecode(inner)}/" for outer, inner in INSIDE)
    return (*folders, *inside, *(f"--exclude={pattern}" for pattern in FILES))
