"""Makes an entry point of a command that the user gives: ``proj run . -- python train.py --epochs 3``."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from runner.base.masking import STARS
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
    return EntryPoint(name=_name(arguments[0], script), command=_template(arguments))


def recorded_arguments(entry_point: str | None, template: str | None) -> tuple[str, ...] | None:
    """Return the arguments of a recorded command that the user gave; None if the run had an entry point.

    ``template`` is the recorded command without values; stars stand for secrets in it.
    """
    if entry_point is None or template is None:
        return None
    # Stars may have taken a quote along, and are not quoted themselves.
    is_masked = STARS in template
    try:
        arguments = tuple(shlex.split(template.replace("{{", "{").replace("}}", "}")))
    except ValueError:
        arguments = tuple(template.split()) if is_masked else ()
    if not arguments or entry_point not in {_name(arguments[0], word) for word in (None, *arguments[1:])}:
        return None
    return arguments if is_masked or _template(arguments) == template else None


def command_again(
    entry_point: str | None, template: str | None, given: tuple[str, ...] | None = None
) -> tuple[str | None, tuple[str, ...]]:
    """Return entry point and command of the request that runs a recorded run again; one of them is empty.

    ``given`` are arguments that the user gives in place of those of the record; None where none can be given.

    Raises:
        UsageError: the command has a secret that is not recorded, or arguments are given for an entry point.
    """
    arguments = recorded_arguments(entry_point, template)
    if arguments is None and given:
        raise UsageError(
            f"The run had the entry point '{entry_point}', so a command can't be given",
            hint="Change its parameters with -P NAME=VALUE.",
        )
    if arguments is not None and not given and any(STARS in word for word in arguments):
        where = "proj rerun RUN" if given is None else "the options"
        raise UsageError(
            f"The command of the run has a secret, which is not recorded: {' '.join(arguments)}",
            hint=f"Give the whole command again: {where} -- COMMAND",
        )
    return (entry_point, ()) if arguments is None else (None, given or arguments)


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


def _name(program: str, script: str | None) -> str:
    return printable(f"{os.path.basename(program)} {script or '…'}")  # noqa: PTH119


def _template(arguments: Sequence[str]) -> str:
    return shlex.join(arguments).replace("{", "{{").replace("}", "}}")


def _exists(project: Path, argument: str) -> bool:
    """Return whether a word is a path of the project, or a module of it as in ``python -m package.module``."""
    if argument.startswith("-") or "\0" in argument:
        return False
    return any(os.path.exists(project / name) for name in (argument, argument.partition(".")[0] or argument))  # noqa: PTH110


def _is_file(argument: str, files: ProjectFiles) -> bool:
    is_possible = bool(argument) and not argument.startswith(("-", "/")) and ".." not in argument.split("/")
    return is_possible and files.read(os.path.normpath(argument)) is not None
