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
"""The end of a simple command: nothing comes after it that would take the place of what is left out."""
_STARTS = re.compile(rf"(?:^|[\s/])(?:python[\d.]*|bash|sh|Rscript){_GAP}\Z")
"""An interpreter: the flag after it is its own, such as ``-m``."""
_NEEDED = re.compile(
    rf"(?:[=<>|&;(]|\s{_FLAG}|(?:^|[\s/])(?:python[\d.]*|bash|sh|Rscript|exec|time|env)){_GAP}\Z"
    r"|[=<>\n][ \t]*\Z|\A\s*\Z"
)
"""What comes before a word without which the command would be another: a redirection, a flag, an interpreter."""


class Omission(Struct, frozen=True, kw_only=True):
    """An entry point without the parameters that are left out, and what was done, each in words for a person."""

    entry_point: EntryPoint
    repairs: tuple[str, ...] = ()


def omit_null_defaults(entry_point: EntryPoint, given: Collection[str]) -> Omission:
    """Return an entry point without the parameters whose default is null and that have no value.

    A parameter stays, and is required, where its words can't be told from the rest of the command.
    """
    repairs = []
    # From the last one on, as of several positional words only those at the end can be left out.
    for spec in reversed(entry_point.parameters):
        if not spec.is_null or spec.name in given:
            continue
        command, words = _without(entry_point.command, spec)
        if command is None:
            continue
        what = f"{quoted(words)} is left out of the command" if words else "it is not passed on"
        repairs.append(f"the default of parameter '{spec.name}' is null: {what}")
        kept = tuple(one for one in entry_point.parameters if one is not spec)
        entry_point = structs.replace(entry_point, command=command, parameters=kept)
    return Omission(entry_point=entry_point, repairs=tuple(reversed(repairs)))


def _without(command: str, spec: ParameterSpec) -> tuple[str | None, list[str]]:
    """Return a command without a parameter and the words that were taken out; None where it can't do without it."""
    field = rf"\$?\{{{re.escape(spec.name)}\}}"
    value = rf"(?:\"{field}\"|'{field}'|{field})"
    after = r"(?=[\s;&|)<>]|\Z)"
    forms = (
        rf"(?<![^\s(]){_FLAG}{_GAP}{value}{after}",
        rf"(?<![^\s(])(?:{_FLAG}|[+~]{{0,2}}[A-Za-z_][\w./@-]*)={value}{after}",
        rf"(?<![^\s(])-[A-Za-z]{value}{after}",
        rf"(?<=\s){value}{_END}",
    )
    words: list[str] = []
    for number, form in enumerate(forms):
        for match in reversed(list(re.finditer(form, command))):
            is_positional = number == len(forms) - 1
            if (_NEEDED if is_positional else _STARTS).search(command[: match.start()]):
                continue
            before = re.sub(r"[ \t]+\Z", " ", command[: match.start()])
            command = (
                f"{before}{command[match.end() :].lstrip(' ') if before.endswith(' ') else command[match.end() :]}"
            )
            words = list(dict.fromkeys((" ".join(match[0].replace("\\\n", " ").split()), *words)))
    return (None if re.search(rf"(?<!\{{){field}(?!\}})|\{{{re.escape(spec.name)}[!:]", command) else command), words
