"""Starts the command line with an import path that the user's folders can't shadow.

A project may have its own ``runner.py`` or ``click.py``. Python puts the folders of PYTHONPATH, the folder of the
started program, and with ``-m`` the current folder before the installed packages, so `proj` would import these files.
This module has a name that no project uses, imports nothing that can be shadowed, and removes those folders. PYTHONPATH
itself stays in the environment: the command of a run with the Python on PATH may need it.
"""

import os
import site
import sys
from collections.abc import Iterable, Sequence


def main() -> None:
    """Run the command line and exit with its exit code."""
    sys.path[:] = own_import_path(sys.path, user_folders(), installed_folders())
    # Imported now: the import path is right only after the line above.
    from runner.cli.start import main as run_main

    run_main()


def user_folders() -> "list[str]":
    """Return the folders that Python took from the user: PYTHONPATH, the program's folder, the current folder."""
    named = [] if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    program = os.path.dirname(os.path.realpath(sys.argv[0]))
    return [*(folder for folder in named if folder), program, os.curdir]


def installed_folders() -> "list[str]":
    """Return the folders of installed packages, and the folder of this module."""
    users = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [os.path.dirname(os.path.abspath(__file__)), *site.getsitepackages(), *users]


def own_import_path(path: "Sequence[str]", users: "Iterable[str]", installed: "Iterable[str]") -> "list[str]":
    """Return an import path without the folders of the user.

    A folder that is the user's and that of installed packages at once goes to the end, after the standard library.
    """
    theirs = {os.path.realpath(folder) for folder in users}
    packages = {os.path.realpath(folder) for folder in installed}
    kept = [folder for folder in path if folder and os.path.realpath(folder) not in theirs]
    both = [folder for folder in path if os.path.realpath(folder or os.curdir) in theirs & packages]
    return [*kept, *dict.fromkeys(map(os.path.abspath, both))]


if __name__ == "__main__":
    main()
