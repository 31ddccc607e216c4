"""Finds programs on PATH, as a shell does."""

import os


def find_program(name: str, path: str | None = None) -> str | None:
    """Return the path of a program, None if there is none. ``path`` is the value of PATH, by default this process's."""
    # shutil.which does the same, but importing shutil loads compressors, which costs each run 2 ms.
    if os.sep in name:
        return name if _is_program(name) else None
    folders = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    paths = (os.path.join(folder, name) for folder in folders)  # noqa: PTH118  # no Path for each of dozens
    return next(filter(_is_program, paths), None)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113  # likewise
