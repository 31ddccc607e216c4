"""Renders the shell command of an entry point with its values."""

import re
import sys
from shlex import quote

from runner.base.masking import STARS, Masker, is_secret
from runner.errors import ManifestError, ParameterError
from runner.manifest.faults import printable, quoted
from runner.manifest.parameters import FLAG, TRUE_VALUES
from runner.manifest.paths import PathRules, ResolvedParameter, resolve_paths
from runner.manifest.template import fill_template
from runner.model import EntryPoint, Parameter

__all__ = ["PathRules", "render_command", "secret_texts", "shell_argv"]

LONGEST = 131_071
"""Bytes of one argument that Linux accepts (MAX_ARG_STRLEN)."""
HERE_DOCUMENT = r"<<-?\s*['\"\\]?([\w.-]+)"


def render_command(
    entry_point: EntryPoint, parameters: tuple[Parameter, ...], paths: PathRules, masker: Masker | None = None
) -> str:
    """Return the exact text for ``bash -c``: the command with quoted values, then the undeclared parameters.

    With a ``masker`` it is the text for the record: stars replace each secret value. Other parts of the command stay,
    even if they equal a secret.

    Raises:
        ManifestError: the command has a placeholder without a parameter, or invalid braces.
        ParameterError: a path does not exist, or an undeclared parameter can't be appended to the command.
    """
    resolved = resolve_paths(parameters, paths)
    texts = [(each.parameter, each.text if masker is None else _recorded(each, masker)) for each in resolved]
    values = {one.name: _word(one, text) for one, text in texts if one.declared}
    filled = fill_template(entry_point.command, values)
    if filled.faults:
        raise ManifestError(
            printable(f"the command of entry point '{entry_point.name}' can't be filled in: ")
            + printable("; ".join(fault.message for fault in filled.faults)),
            hint=filled.faults[0].hint and printable(filled.faults[0].hint),
        )
    extras = [(one.name, text) for one, text in texts if not one.declared]
    command = _append(filled.text, extras, entry_point)
    _refuse_unusable(command, entry_point)
    return command if masker is None else Masker().command(command)


def secret_texts(parameters: tuple[Parameter, ...], paths: PathRules) -> tuple[str, ...]:
    """Return the paths in secret parameters."""
    resolved = (each for each in resolve_paths(parameters, paths) if each.text != each.parameter.value)
    return tuple(each.text for each in resolved if is_secret(each.parameter))


def _word(parameter: Parameter, text: str) -> str:
    """Return a value as a word of the command; a flag is ``--NAME`` or nothing."""
    if parameter.type.lower() == FLAG:
        return f"--{quote(parameter.name)}" if text.lower() in TRUE_VALUES else ""
    return text if text == STARS else quote(text)


def _recorded(resolved: ResolvedParameter, masker: Masker) -> str:
    return STARS if is_secret(resolved.parameter) and resolved.text else masker.shown(resolved.text)


def shell_argv(command: str, shell: str = "bash") -> tuple[str, ...]:
    """Return the process that runs a command: bash, except in an image without bash."""
    return (shell, "-c", command)


def _append(command: str, extras: list[tuple[str, str]], entry_point: EntryPoint) -> str:
    """Return a command with the undeclared parameters on its last line, also where it is a block that ends in one.

    A backslash at the end continues the line, so it goes: before a space it would quote that space.
    """
    if not extras:
        return command
    body = command.rstrip()
    if "\n" not in command[len(body) :]:
        body = command
    backslashes = len(body) - len(body.rstrip("\\"))
    if backslashes % 2:
        body = body[:-1].rstrip(" \t")
    if _ends_without_command(entry_point.command):
        names = quoted([name for name, _ in extras])
        raise ParameterError(
            printable(f"{names} can't be added to the command of '{entry_point.name}': its last line is no command"),
            hint="declare the parameter and use it in the command",
        )
    words = [
        entry_point.extra.format(name=quote(name), value=value if value == STARS else quote(value))
        for name, value in extras
    ]
    return " ".join([body, *words])


def _ends_without_command(template: str) -> bool:
    """Return whether the last line is a comment or ends a here document; quoted values can't change that."""
    text = template.rstrip()
    last = text.rpartition("\n")[2].strip()
    is_end_of_document = "\n" in text and last in re.findall(HERE_DOCUMENT, text)
    return is_end_of_document or ("\n" in template and last.startswith("#"))


def _refuse_unusable(command: str, entry_point: EntryPoint) -> None:
    subject = printable(f"the command of entry point '{entry_point.name}'")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as error:
        raise ManifestError(f"{subject} is not valid UTF-8") from error
    if "\0" in command:
        raise ManifestError(f"{subject} holds a NUL character")
    if sys.platform == "linux" and size > LONGEST:
        raise ManifestError(
            f"{subject} is too long: {size:,} bytes, and one argument may have {LONGEST:,}",
            hint="give long values in a file",
        )
