"""Finds scripts that a command names and that are missing from the project."""

import re
import shlex

from runner.base.foreign_text import Position
from runner.manifest.faults import Faults
from runner.manifest.files import near_file, tidy_path
from runner.model import EntryPoint, ProjectFiles

INTERPRETERS = re.compile(r"(python[\d.]*|bash|sh|Rscript)")
SCRIPTS = (".py", ".sh", ".R", ".r")
SEPARATORS = frozenset({";", "&&", "||", "|", "&", "(", ")"})


def absent_scripts(command: str, files: ProjectFiles) -> tuple[str, ...]:
    """Return the scripts that a command passes to an interpreter and that are missing from the project.

    Only plain relative paths are checked, and only before the command changes its folder or writes files.
    """
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:
        return ()
    if {"cd", "pushd", "cp", "curl", "wget", "git", "unzip", "tar", "mv"} & set(tokens):
        return ()
    absent = []
    for number, token in enumerate(tokens):
        script = _script_after(tokens[number + 1 :]) if INTERPRETERS.fullmatch(token) else None
        if script and files.read(tidy_path(script)) is None:
            absent.append(script)
    return tuple(dict.fromkeys(absent))


def _script_after(tokens: list[str]) -> str | None:
    """Return the script among an interpreter's arguments, or None."""
    for token in tokens:
        if token in SEPARATORS or token in ("-c", "-m", "-e"):
            return None
        if not token.startswith("-"):
            plain = token.endswith(SCRIPTS) and not token.startswith(("/", "~")) and not re.search(r"[${}*?`]", token)
            return token if plain else None
    return None


def check_files(position: Position | None, entry: EntryPoint, files: ProjectFiles, faults: Faults) -> None:
    """Warn of missing scripts."""
    for script in absent_scripts(entry.command, files):
        message = f"the command of '{entry.name}' names '{script}', which is not in the project"
        faults.warning(position, message, near_file(tidy_path(script), files))
