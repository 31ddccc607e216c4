"""Removes parameters with ``default: null`` and without a value from a command, with their flags.

For authors, null means that the script's own default applies. MLflow refuses the run, and the text ``None`` breaks
argparse.
"""

import re
from collections.abc import Collection

from msgspec import Struct, structs

from runner.manifest.faults import quoted
from runner.model import EntryPoint, ParameterSpec

_GAP = r"[ \t]+(?:\\\r?\n[ \t]*)*"
_FLAG = r"--?[A-Za-z][\w.-]*"
_END = r"(?=[ \t]*(?:\\\r?\n\s*)*(?:[\r\n;&|)>]|\Z))"
"""The end of a simple command: no later argument can take the position of a removed one."""
_STARTS = re.compile(rf"(?:^|[\s/])(?:python[\d.]*|bash|sh|Rscript){_GAP}\Z")
"""An interpreter: the flag after it is its own, such as ``-m``."""
_NEEDED = re.compile(
    rf"(?:[=<>|&;(]|\s{_FLAG}|(?:^|[\s/])(?:python[\d.]*|bash|sh|Rscript|exec|time|env)){_GAP}\Z"
    r"|[=<>\n][ \t]*\Z|\A\s*\Z"
)
"""Text before an argument that the command needs: a redirection, a flag, an interpreter."""


class ReducedEntryPoint(Struct, frozen=True, kw_only=True):
    """An entry point without the omitted parameters, and a text for each repair."""

    entry_point: EntryPoint
    repairs: tuple[str, ...] = ()


def omit_null_defaults(entry_point: EntryPoint, given: Collection[str]) -> ReducedEntryPoint:
    """Return an entry point without the parameters whose default is null and that have no value.

    A parameter stays, and is required, if its arguments can't be identified in the command.
    """
    repairs = []
    # From last to first: of several positional arguments only those at the end can be removed.
    for spec in reversed(entry_point.parameters):
        if not spec.is_null or spec.name in given:
            continue
        command, removed = _without(entry_point.command, spec)
        if command is None:
            continue
        what = f"{quoted(removed)} is left out of the command" if removed else "it is not passed on"
        repairs.append(f"the default of parameter '{spec.name}' is null: {what}")
        remaining = tuple(one for one in entry_point.parameters if one is not spec)
        entry_point = structs.replace(entry_point, command=command, parameters=remaining)
    return ReducedEntryPoint(entry_point=entry_point, repairs=tuple(reversed(repairs)))


def _without(command: str, spec: ParameterSpec) -> tuple[str | None, list[str]]:
    """Return a command without a parameter, None if that is impossible, and the removed arguments."""
    field = rf"\$?\{{{re.escape(spec.name)}\}}"
    value = rf"(?:\"{field}\"|'{field}'|{field})"
    after = r"(?=[\s;&|)<>]|\Z)"
    forms = (
        rf"(?<![^\s(]){_FLAG}{_GAP}{value}{after}",
        rf"(?<![^\s(])(?:{_FLAG}|[+~]{{0,2}}[A-Za-z_][\w./@-]*)={value}{after}",
        rf"(?<![^\s(])-[A-Za-z]{value}{after}",
        rf"(?<=\s){value}{_END}",
    )
    removed: list[str] = []
    for number, form in enumerate(forms):
        for match in reversed(list(re.finditer(form, command))):
            is_positional = number == len(forms) - 1
            if (_NEEDED if is_positional else _STARTS).search(command[: match.start()]):
                continue
            before = re.sub(r"[ \t]+\Z", " ", command[: match.start()])
            command = (
                f"{before}{command[match.end() :].lstrip(' ') if before.endswith(' ') else command[match.end() :]}"
            )
            removed = list(dict.fromkeys((" ".join(match[0].replace("\\\n", " ").split()), *removed)))
    return (None if re.search(rf"(?<!\{{){field}(?!\}})|\{{{re.escape(spec.name)}[!:]", command) else command), removed
