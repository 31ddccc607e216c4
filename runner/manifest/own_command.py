"""Makes an entry point of a command that the user gives: ``proj run . -- python train.py --epochs 3``."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from runner.errors import ManifestError, UsageError
from runner.manifest.faults import printable
from runner.model import EntryPoint, ProjectFiles

_SHELL_OPERATORS = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&"})


def entry_point_of(arguments: Sequence[str], files: ProjectFiles) -> EntryPoint:
    """Return the entry point for a command; each word reaches the program exactly as it was given.

    Its name is that of the program with the first file of the project in the command. No entry point has such a name.

    Raises:
        UsageError: a word is not valid for a command.
    """
    if not arguments[0] or any("\0" in argument for argument in arguments):
        raise UsageError("the command after -- is empty or contains a NUL character")
    script = next((argument for argument in arguments[1:] if _is_file(argument, files)), None)
    name = f"{os.path.basename(arguments[0])} {script}" if script else f"{os.path.basename(arguments[0])} …"  # noqa: PTH119
    command = shlex.join(arguments).replace("{", "{{").replace("}", "}}")
    return EntryPoint(name=printable(name), command=command)


def shell_operator(arguments: Sequence[str]) -> str | None:
    """Return a word that means something to a shell, which does not see it, or None."""
    return next((argument for argument in arguments if argument in _SHELL_OPERATORS), None)


def require_own_files(arguments: Sequence[str], project: Path) -> None:
    """Refuse a command in a folder without a manifest if it names nothing in that folder.

    Raises:
        ManifestError: no word is a file or folder of the project.
    """
    if not any(argument and _exists(project, argument) for argument in arguments):
        raise ManifestError(
            printable(f"'{project}' has no MLproject, and the command names no file in it"),
            hint="run it in the folder of the project, or create an empty file MLproject there",
        )


def _exists(project: Path, argument: str) -> bool:
    """Return whether a word is a path of the project, or a module of it as in ``python -m package.module``."""
    if argument.startswith("-") or "\0" in argument:
        return False
    return any(os.path.exists(project / name) for name in (argument, argument.partition(".")[0] or argument))  # noqa: PTH110


def _is_file(argument: str, files: ProjectFiles) -> bool:
    is_possible = bool(argument) and not argument.startswith(("-", "/")) and ".." not in argument.split("/")
    return is_possible and files.read(os.path.normpath(argument)) is not None
