"""Options shared by several commands."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from runner.base.durations import seconds_of
from runner.base.nearest_manifest import folder_with_manifest
from runner.base.tags import NOTE_TAG, RUN_NAME_TAG
from runner.cli.text import print_message, printable
from runner.errors import UsageError
from runner.store.rules import check_name, check_value

Command = TypeVar("Command", bound=Callable[..., object])


def _go_offline(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    # The variable also reaches runs that the command itself starts.
    if value:
        os.environ["PROJ_OFFLINE"] = "1"


OFFLINE = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_go_offline,
    help="Do not use the network; fail if something needed is not cached.",
)


def reads_runs(command: Command) -> Command:
    """Add the options that select the store from which a command reads runs."""
    local = click.option("--local", is_flag=True, help="Read the local store and ignore MLFLOW_TRACKING_URI.")
    uri = click.option("--tracking-uri", metavar="URI", help="Read this MLflow server. [default: MLFLOW_TRACKING_URI]")
    return uri(local(command))


def read_pairs(option: str, assignments: object) -> dict[str, str]:
    """Return the values of a repeatable option that takes NAME=VALUE, by name.

    Raises:
        UsageError: an assignment is not NAME=VALUE, or a name is given twice.
    """
    given: dict[str, str] = {}
    for assignment in assignments if isinstance(assignments, tuple) else ():
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} takes NAME=VALUE, not {assignment!r}")
        if name in given:
            raise UsageError(f"{option} {name} is given twice")
        given[name] = value
    return given


PROJECT = click.option(
    "--project",
    "folder",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the project. [default: this folder, or the nearest one above it with an MLproject]",
)


def project_folder(folder: Path | None) -> Path:
    """Return the folder that ``--project`` names, else the nearest one with a manifest, else the current one."""
    if folder is not None:
        return folder
    return folder_with_manifest(Path()) or Path()


def project_at(folder: Path) -> Path:
    """Return a folder with a manifest, or the nearest one above it, and say if it is above; else the folder itself."""
    found = folder_with_manifest(folder)
    if found is None or found == folder:
        return folder
    print_message(f"i The project is {found}, which has an MLproject", fg="blue")
    return found


def read_age(text: str) -> float:
    """Return the seconds of an age such as ``30d``.

    Raises:
        UsageError: the text is not an age.
    """
    seconds = seconds_of(text)
    if seconds is None:
        raise UsageError(f"'{printable(text)}' is not a valid age", hint="Examples: 30m, 12h, 30d, 8w.")
    return seconds


_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


def read_size(text: str) -> int:
    """Return the bytes of a size such as ``100M``.

    Raises:
        UsageError: the text is not a size.
    """
    match = re.fullmatch(r"(\d{1,9})\s*([kmgt]?)i?b?", text.strip().lower())
    if match is None:
        raise UsageError(f"'{printable(text)}' is not a valid size", hint="Examples: 500M or 20G.")
    return int(match[1]) * _UNITS[match[2]]


_RESERVED = {
    NOTE_TAG: "`proj note` changes the note of a run.",
    RUN_NAME_TAG: "`proj rename` changes the name of a run.",
}


def read_tags(assignments: Sequence[str]) -> dict[str, str]:
    """Return the tags of arguments ``NAME=VALUE``; a name alone stands for ``NAME=true``.

    Raises:
        UsageError: a name is given twice or is reserved.
        InvalidValueError: a name or a value is not possible.
    """
    pairs = [assignment.partition("=") for assignment in assignments]
    names = [name for name, _, _ in pairs]
    check_tag_names(names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"The tag '{printable(twice)}' is given twice")
    return {name: check_text("tag", name, value if equals else "true") for name, equals, value in pairs}


def check_tag_names(names: Iterable[str]) -> None:
    """Check the names of tags that the user sets or removes.

    Raises:
        UsageError: a name is reserved for facts that proj or MLflow record.
        InvalidValueError: a name is not possible.
    """
    for name in names:
        check_name("tag", name)
        if name.startswith(("proj.", "mlflow.")):
            owner = "proj" if name.startswith("proj.") else "MLflow"
            hint = _RESERVED.get(name, "Choose another name.")
            raise UsageError(f"The tag '{printable(name)}' is reserved: {owner} records facts in it", hint=hint)


def check_text(what: str, name: str, value: str) -> str:
    """Return a value that the user gives, after checking it; on the command line it may have any bytes.

    Raises:
        UsageError: the value is not valid UTF-8.
        InvalidValueError: the value is too long.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The value of the {what} '{printable(name)}' is not valid UTF-8") from error
    return check_value(what, name, value)
