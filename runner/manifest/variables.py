"""Reads the environment variables that an entry point takes from its caller and from files such as ``.env``."""

import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from msgspec import Struct

from runner.base.files import open_regular
from runner.base.foreign_text import SMALL
from runner.base.masking import is_number, is_ordinary, is_secret_name
from runner.base.suggestions import suggestion
from runner.errors import ManifestError
from runner.manifest.faults import printable
from runner.model import EntryPoint, Event, EventKind, ProjectFiles, Report

_EXAMPLES = (".example", ".sample", ".template", ".dist")
"""Ends of the names of files that show what an ignored file of variables should contain."""


class PassedVariables(Struct, frozen=True):
    """Variables for a command, and warnings about them."""

    values: Mapping[str, str]
    notices: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values to mask: all except ordinary words, paths that exist, and numbers without the name of a secret."""
        return tuple(
            value
            for name, value in self.values.items()
            if not (is_ordinary(value) or _is_path(value)) or (is_secret_name(name) and is_number(value))
        )


def read_variables(
    entry_point: EntryPoint, environ: Mapping[str, str], files: ProjectFiles, project: Path | None, report: Report
) -> PassedVariables:
    """Return the values of ``env_file``, and those of the caller for the names in ``env``, which override them.

    A file is read from the user's project folder, because git usually ignores it; else from the frozen tree.

    Raises:
        ManifestError: a file does not exist or is not valid.
    """
    values: dict[str, str] = {}
    notices = []
    for path in entry_point.env_files:
        values.update(_read_file(path, environ, files, project))
        if files.read(path) is not None:
            notices.append(
                f"'{path}' is not ignored by git, so its content is recorded with the code; add it to .gitignore"
            )
    for name in entry_point.passed:
        if name in environ:
            values[name] = environ[name]
        elif name not in values:
            notices.append(f"the variable {name}, which '{entry_point.name}' passes on, is not set")
    for notice in notices:
        report(Event(kind=EventKind.WARNING, message=notice))
    return PassedVariables(values, tuple(notices))


def _read_file(path: str, environ: Mapping[str, str], files: ProjectFiles, project: Path | None) -> dict[str, str]:
    content = _user_content(project / path) if project is not None else None
    content = files.read(path) if content is None else content
    if content is None:
        raise ManifestError(printable(f"the env_file '{path}' does not exist"), hint=_hint(path, files))
    if len(content) > SMALL.size:
        raise ManifestError(printable(f"the env_file '{path}' is larger than {SMALL.size:,} bytes"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(printable(f"the env_file '{path}' is not UTF-8"), context=f"byte {error.start}") from None
    return parse_variables(text, path, environ)


def _user_content(path: Path) -> bytes | None:
    """Return the content of a regular file, or None if it does not exist."""
    try:
        with open_regular(path, follow=True) as file:
            return file.read(SMALL.size + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ManifestError(printable(f"the env_file '{path}' can't be read: {error.strerror or error}")) from error


def parse_variables(text: str, path: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in the text of a file in the format of python-dotenv.

    ``${NAME}`` takes the value of an earlier line or of the caller. A name without ``=`` has no value and is left out.

    Raises:
        ManifestError: a line is not valid; the error names its number, and never its content.
    """
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables as parts_of

    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        usable = binding.key is None or ("\0" not in f"{binding.key}{binding.value}" and "=" not in binding.key)
        if binding.error or not usable:
            raise ManifestError(
                f"a line of '{printable(path)}' is not NAME=VALUE",
                context=f"{printable(path)}:{binding.original.line}",
                hint="put values with spaces, quotes or several lines in quotes",
            )
        if binding.key is not None and binding.value is not None:
            known = {**environ, **values}
            values[binding.key] = "".join(part.resolve(known) for part in parts_of(binding.value))
    return values


def _hint(path: str, files: ProjectFiles) -> str:
    folder, name = os.path.split(path)
    names = files.names(folder)
    example = next((f"{name}{end}" for end in _EXAMPLES if f"{name}{end}" in names), None)
    if example is not None:
        return printable(f"copy '{os.path.join(folder, example)}' to '{path}' and fill in the values")  # noqa: PTH118
    return suggestion(name, names) or "create it with lines NAME=VALUE, or remove it from the manifest"


def _is_path(value: str) -> bool:
    """Return whether a value is the absolute path of something that exists: a folder of data or a program."""
    return value.startswith("/") and "\0" not in value and os.path.exists(value)  # noqa: PTH110  too long is no error
