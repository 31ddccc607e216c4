"""Binds values to the parameters of an entry point."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from runner.base.foreign_text import SMALL, ForeignTextError, parse_json, read_limited
from runner.base.lazy import LazyModule
from runner.base.masking import is_secret_name
from runner.base.suggestions import nearest
from runner.errors import ParameterError
from runner.manifest.faults import printable, quoted
from runner.model import EntryPoint, Parameter, ParameterSpec, ValueSource

if TYPE_CHECKING:
    from runner.manifest import document
else:
    document = LazyModule("runner.manifest.document")

INTEGERS = ("int", "integer")
NUMBERS = ("float", "number")
TRUTHS = ("bool", "boolean")
FLAG = "flag"
"""The type of a truth value that is passed as ``--NAME`` or not at all."""
TRUE_VALUES = frozenset(["true", "yes", "on", "y", "t", "1"])
TRUTH_VALUES = frozenset(["true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"])
INTEGER = r"(?a)[+-]?[0-9]+(_[0-9]+)*"
LONGEST_INTEGER = 1000
"""Digits up to which integers are converted: Python refuses more than 4300."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def bind_parameters(
    entry_point: EntryPoint, given: Mapping[str, str], from_file: Mapping[str, str]
) -> tuple[Parameter, ...]:
    """Return the values of a run: declared parameters in their order, then undeclared ones of ``-P`` and the file.

    A given value must match the declared type, choices and bounds, unless it equals the default. Defaults are not
    checked, as in MLflow.

    Raises:
        ParameterError: a value is missing or invalid; the error lists all faults.
    """
    values = {**from_file, **given}
    declared = {spec.name: spec for spec in entry_point.parameters}
    missing = [
        spec
        for spec in entry_point.parameters
        if spec.default is None and spec.name not in values and spec.type.lower() != FLAG
    ]
    faults = [_missing(missing)] if missing else []
    for name, value in values.items():
        fault = _unusable(name, value) or (_refusal(declared[name], value) if name in declared else None)
        faults += [fault] if fault else []
    if faults:
        raise _parameter_error(entry_point, faults, missing, [name for name in values if name not in declared])
    bound = [_bind(spec, given, from_file) for spec in entry_point.parameters]
    extras = [*given, *(name for name in from_file if name not in given)]
    for name in (name for name in extras if name not in declared):
        source = ValueSource.COMMAND_LINE if name in given else ValueSource.FILE
        bound.append(Parameter(name=name, value=values[name], source=source, declared=False))
    return tuple(bound)


def _bind(spec: ParameterSpec, given: Mapping[str, str], from_file: Mapping[str, str]) -> Parameter:
    absent = "false" if spec.type.lower() == FLAG else ""
    value, source = spec.default or absent, ValueSource.DEFAULT
    if spec.name in given:
        value, source = given[spec.name], ValueSource.COMMAND_LINE
    elif spec.name in from_file:
        value, source = from_file[spec.name], ValueSource.FILE
    return Parameter(name=spec.name, value=value, type=spec.type, source=source, secret=spec.secret)


def _parameter_error(
    entry_point: EntryPoint, faults: list[str], missing: list[ParameterSpec], unknown: list[str]
) -> ParameterError:
    context = [f"'{spec.name}' ({spec.type}): {spec.note or spec.description or 'no default'}" for spec in missing]
    return ParameterError(
        printable("; ".join(faults)),
        context=printable("\n".join([f"entry point '{entry_point.name}'", *context])),
        hint=printable(_hint_of(missing[0], unknown)) if missing else None,
    )


def _missing(specs: list[ParameterSpec]) -> str:
    names = quoted([spec.name for spec in specs])
    return f"parameter {names} has no value" if len(specs) == 1 else f"parameters {names} have no value"


def _hint_of(spec: ParameterSpec, unknown: list[str]) -> str:
    meant = nearest(spec.name, unknown)
    if meant is not None:
        return f"did you mean -P {spec.name} where you wrote -P {meant}?"
    if spec.note:
        kind = spec.type.lower()
        takes_any = wrong_type(kind, "") is None
        default = 'a default, such as "",' if takes_any else f"{wrong_type(kind, '')} as its default"
        return f"give -P {spec.name}=VALUE, or write {default} in the manifest"
    return f"give -P {spec.name}=VALUE"


def _unusable(name: str, value: str) -> str | None:
    """Return why a value can't be stored or passed to a shell, or None."""
    if not name:
        return "a parameter has no name"
    for text in (name, value):
        if "\0" in text:
            return f"parameter '{name}' holds a NUL character"
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"parameter '{name}' is not valid UTF-8"
    return None


def _refusal(spec: ParameterSpec, value: str) -> str | None:
    """Return why a value that the user gave is refused, or None."""
    if value == spec.default:
        return None
    shown = "the value given" if spec.secret or is_secret_name(spec.name) else f"'{value}'"
    wanted = wrong_type(spec.type.lower(), value)
    if wanted:
        return f"parameter '{spec.name}' takes {wanted}, not {shown}"
    if spec.choices and not _is_choice(spec, value):
        return f"parameter '{spec.name}' takes {' or '.join(spec.choices)}, not {shown}"
    return _out_of_bounds(spec, value, shown)


def wrong_type(kind: str, value: str) -> str | None:
    """Return what a type accepts if it does not accept the value, else None; types without a rule accept every text."""
    if kind in INTEGERS:
        return None if re.fullmatch(INTEGER, value) else "an integer"
    if kind in NUMBERS:
        return "a number" if _number(value) is None else None
    if kind in (*TRUTHS, FLAG):
        return None if value.lower() in TRUTH_VALUES else "true or false"
    if kind == "uri":
        return None if SCHEME.match(value) else "a URI with a scheme"
    return None


def spell_numbers(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Return parameters with one spelling for equal numbers of a type, for the record: ``1``, ``1.0`` and ``1e0``.

    The spelling is that of Python, as scripts log it. What is no finite number of its type stays as it is.
    """
    return tuple(structs.replace(one, value=_normal(one.type.lower(), one.value)) for one in parameters)


def _normal(kind: str, value: str) -> str:
    if kind in INTEGERS and len(value) <= LONGEST_INTEGER and re.fullmatch(INTEGER, value):
        return str(int(value))
    number = _number(value) if kind in NUMBERS else None
    return value if number is None or not math.isfinite(number) else str(number)


def _number(value: str) -> float | None:
    """Return a text as a number, or None; surrounding spaces make it no number."""
    try:
        return float(value) if value == value.strip() else None
    except ValueError:
        return None


def _is_choice(spec: ParameterSpec, value: str) -> bool:
    if value in spec.choices:
        return True
    number = _number(value) if spec.type.lower() in (*INTEGERS, *NUMBERS) else None
    return number is not None and number in [_number(choice) for choice in spec.choices]


def _out_of_bounds(spec: ParameterSpec, value: str, shown: str) -> str | None:
    if spec.minimum is None and spec.maximum is None:
        return None
    number = _number(value)
    if number is None:
        return f"parameter '{spec.name}' takes a number, not {shown}"
    if spec.minimum is not None and not number >= spec.minimum:
        return f"parameter '{spec.name}' is at least {spec.minimum:g}, not {shown}"
    if spec.maximum is not None and not number <= spec.maximum:
        return f"parameter '{spec.name}' is at most {spec.maximum:g}, not {shown}"
    return None


def read_parameters_file(path: Path) -> dict[str, str]:
    """Return the parameters in a YAML or JSON file, a mapping of names to values, as texts.

    Values become texts as defaults in a manifest do. A name without a value, or with null, is not given.

    Raises:
        ParameterError: there is no such file, or it is not a mapping.
    """
    try:
        content = read_limited(path, SMALL)
    except (OSError, ValueError) as error:
        raise ParameterError(printable(f"the parameters file '{path}' can't be read: {_reason(error)}")) from error
    return _json_parameters(path, content) if path.suffix.lower() == ".json" else _yaml_parameters(path, content)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _json_parameters(path: Path, content: bytes) -> dict[str, str]:
    try:
        found = parse_json(content)
    except ForeignTextError as error:
        raise ParameterError(
            f"the parameters file '{path}' can't be read: {error}", context=f"{path}{error.location}"
        ) from None
    if not isinstance(found, dict):
        raise ParameterError(f"the parameters file '{path}' must be an object of names and values")
    return {name: value if isinstance(value, str) else str(value) for name, value in found.items() if value is not None}


def _yaml_parameters(path: Path, content: bytes) -> dict[str, str]:
    try:
        root = document.load_document(str(path), content)
    except document.DocumentError as error:
        raise ParameterError(error.message, context=error.context, hint=error.hint) from error
    if root is None or root.is_null:
        return {}
    if root.kind is not document.Kind.MAPPING:
        raise ParameterError(f"the parameters file '{path}' must be a mapping of names to values")
    for name, field in root.fields.items():
        problem = document.problem_of(field.value)
        if problem:
            location = f"{path}:{field.value.position.line}:{field.value.position.column}"
            raise ParameterError(f"the value of '{name}' can't be read: {problem}", context=location, hint="quote it")
    return {name: document.text_of(field.value) for name, field in root.fields.items() if not field.value.is_null}
