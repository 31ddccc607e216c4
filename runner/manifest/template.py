"""Renders command templates: ``str.format`` with quoted values; the shell's ``${…}`` stays unchanged."""

import re
from collections.abc import Mapping
from string import Formatter

from msgspec import Struct

from runner.base.suggestions import suggestion

WIDEST = 10_000
"""Largest width in characters of a formatted value."""
DEEPEST = 2
"""Largest depth of nested fields, as in ``str.format``."""
BRACES = "a brace that the shell should see is written twice: {{ and }}"


class TemplateFault(Struct, frozen=True, kw_only=True):
    """A fault of a command template; ``text`` is the faulty part as written, if known."""

    text: str
    message: str
    hint: str | None = None


class Filled(Struct, frozen=True, kw_only=True):
    """A rendered command, the names of the values that it uses, and its faults."""

    text: str
    used: frozenset[str]
    faults: tuple[TemplateFault, ...]


def fill_template(command: str, values: Mapping[str, str]) -> Filled:
    """Return a command with each ``{NAME}`` replaced; the values must be quoted already.

    A name may contain dots, brackets or digits: a placeholder names a parameter, never a part of one. Conversions and
    format specifications work as in ``str.format``.
    """
    filling = _Filling(values)
    text = filling.fill(protect_shell_braces(command, values), DEEPEST)
    return Filled(text=text, used=frozenset(filling.used), faults=tuple(filling.faults))


def protect_shell_braces(command: str, names: Mapping[str, str]) -> str:
    """Return a template in which every ``${…}`` is doubled, except where it names a parameter, as ``${NAME}``."""
    out = []
    at = 0
    ends = _ends_of_braces(command)
    while at < len(command):
        is_single = command.startswith("${", at) and not command.startswith("{{", at + 1)
        end = ends.get(at + 1) if is_single else None
        if command.startswith(("{{", "}}"), at):
            out.append(command[at : at + 2])
            at += 2
        elif end is None:
            out.append(command[at])
            at += 1
        else:
            inner = command[at + 2 : end - 1]
            is_parameter = inner in names or re.split("[!:]", inner, maxsplit=1)[0] in names
            out.append(f"${{{inner}}}" if is_parameter else f"${{{{{_protect_inside(inner, names)}}}}}")
            at = end
    return "".join(out)


def _ends_of_braces(command: str) -> dict[int, int]:
    """Return the end of each pair of braces by its start; unclosed braces are skipped."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for match in re.finditer("[{}]", command):
        if match[0] == "{":
            opened.append(match.start())
        elif opened:
            ends[opened.pop()] = match.end()
    return ends


def _protect_inside(inner: str, names: Mapping[str, str]) -> str:
    """Return the content of ``${…}`` with its braces doubled, except around the names of parameters."""
    parts = re.split(r"(\{[^{}]*\})", inner)
    return "".join(
        part if part.startswith("{") and part[1:-1] in names else part.replace("{", "{{").replace("}", "}}")
        for part in parts
    )


class _Filling:
    """One pass over a template."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.used: set[str] = set()
        self.faults: list[TemplateFault] = []

    def fill(self, template: str, depth: int) -> str:
        out = []
        try:
            for literal, name, spec, conversion in Formatter().parse(template):
                out.append(literal)
                if name is not None:
                    out.append(self._field(name, spec or "", conversion, depth))
        except ValueError as error:
            gist = "a single '}'" if "Single '}'" in str(error) else "a single '{'"
            self._fault("", f"it has {gist}, which is neither a placeholder nor for the shell", BRACES)
        return "".join(out)

    def _field(self, name: str, spec: str, conversion: str | None, depth: int) -> str:
        whole = "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
        if name not in self.values:
            self._unknown(name, whole)
            return whole
        self.used.add(name)
        if depth < 1:
            self._fault(whole, f"'{whole}' is nested too deeply")
            return whole
        spec = self.fill(spec, depth - 1) if "{" in spec or "}" in spec else spec
        return self._format(self.values[name], spec, conversion, whole)

    def _format(self, value: str, spec: str, conversion: str | None, whole: str) -> str:
        if any(int(digits) > WIDEST for digits in re.findall("[0-9]{1,20}", spec)):
            self._fault(whole, f"'{whole}' is wider than {WIDEST:,} characters")
            return whole
        try:
            converted = Formatter().convert_field(value, conversion)
            return format(str(converted), spec)
        except ValueError:
            self._fault(whole, f"the format of '{whole}' does not apply: values are texts", "format it in the script")
            return whole

    def _unknown(self, name: str, whole: str) -> None:
        if not name:
            self._fault(whole, f"'{whole}' is a placeholder without a name", BRACES)
            return
        hint = suggestion(name, self.values)
        if hint is None:
            hint = f"declare it under parameters; {BRACES}"
        self._fault(whole, f"'{whole}' is a placeholder, but there is no parameter '{name}'", hint)

    def _fault(self, text: str, message: str, hint: str | None = None) -> None:
        fault = TemplateFault(text=text, message=message, hint=hint)
        if fault not in self.faults:
            self.faults.append(fault)
