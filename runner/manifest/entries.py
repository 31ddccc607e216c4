"""Parses the entry points of a manifest."""

import re

from runner.base.suggestions import suggestion
from runner.manifest.document import Kind, Node, problem_of, text_of
from runner.manifest.environment import declare_own_environment
from runner.manifest.faults import Faults
from runner.manifest.own_keys import (
    number_of,
    read_description,
    read_ignored,
    read_inputs,
    read_metrics,
    read_names,
    read_paths,
    read_promotion,
    read_timeout,
    read_variables,
)
from runner.model import EntryPoint, ParameterSpec, ProjectFiles

GLUED_DEFAULT = re.compile(r"default\s*[:= ]\s*\S")
"""A key like ``default:0.1``, ``default=adam`` or ``default 5``: YAML reads all of it as the key."""


def read_entry_points(node: Node | None, files: ProjectFiles, file: str) -> dict[str, EntryPoint]:
    """Return the entry points by name; each contains its own faults."""
    if node is None:
        return {}
    entries = {name: _read_entry_point(name, field.value, files, Faults(file)) for name, field in node.fields.items()}
    for name, entry in entries.items():
        unknown = [needed for needed in entry.needs if needed not in entries]
        if unknown:
            faults = Faults(file)
            needs = node.fields[name].value.field("needs")
            for needed in unknown:
                position = needs.position if needs else None
                hint = suggestion(needed, entries)
                faults.error(position, f"'{name}' needs '{needed}', which is no entry point", hint)
            entries[name] = _with_faults(entry, faults)
    return entries


def _with_faults(entry: EntryPoint, faults: Faults) -> EntryPoint:
    from msgspec import structs

    return structs.replace(entry, faults=(*entry.faults, *faults.found))


def _read_entry_point(name: str, node: Node, files: ProjectFiles, faults: Faults) -> EntryPoint:
    if node.kind is not Kind.MAPPING:
        hint = "write the text below the name, as command: …" if node.is_text else None
        faults.error(node.position, f"entry point '{name}' must be a mapping with a 'command'", hint)
        return EntryPoint(name=name, command="", faults=tuple(faults.found))
    own = node.field("environment")
    variables = read_variables(node.field("env"), faults)
    inputs, copied = read_inputs(node.field("inputs"), faults)
    entry = EntryPoint(
        name=name,
        command=_read_command(name, node, faults),
        parameters=_read_parameters(name, node.field("parameters"), faults),
        description=read_description(node.field("description"), faults),
        inputs=inputs,
        copied_inputs=copied,
        outputs=read_paths("outputs", node.field("outputs"), faults, inside=True),
        metrics=read_metrics(node.field("metrics"), faults),
        env={variable: value for variable, value in variables.items() if value is not None},
        passed=tuple(variable for variable, value in variables.items() if value is None),
        env_files=read_paths("env_file", node.field("env_file"), faults, inside=True),
        timeout=read_timeout(node.field("timeout"), faults),
        environment=None if own is None else declare_own_environment(own, files, faults),
        needs=read_names("needs", node.field("needs"), faults),
        promote=read_promotion(node.field("promote"), faults),
        ignore=read_ignored(node.field("ignore"), faults),
    )
    return _with_faults(entry, faults)


def _read_command(name: str, node: Node, faults: Faults) -> str:
    command = node.field("command")
    if command is None:
        position = node.fields["command"].key.position if "command" in node.fields else node.position
        faults.error(position, f"entry point '{name}' has no 'command'")
        return ""
    if not command.is_text:
        kinds = {Kind.LIST: "a list", Kind.MAPPING: "a mapping", Kind.SCALAR: f"'{command.source}' without quotes"}
        hint = "write the whole command line as one text, in quotes or below a |"
        faults.error(command.position, f"the 'command' of '{name}' must be a text, not {kinds[command.kind]}", hint)
        return ""
    return command.source


def _read_parameters(name: str, node: Node | None, faults: Faults) -> tuple[ParameterSpec, ...]:
    if node is None:
        return ()
    if node.kind is not Kind.MAPPING:
        hint = "write name: {type: …, default: …} without the dash"
        faults.error(node.position, f"'parameters' of '{name}' must be a mapping of names to declarations", hint)
        return ()
    return tuple(_read_parameter(parameter, field.value, faults) for parameter, field in node.fields.items())


def _read_parameter(name: str, node: Node, faults: Faults) -> ParameterSpec:
    if node.is_null:
        return ParameterSpec(name=name)
    if node.is_text:
        return ParameterSpec(name=name, type=node.source or "string")
    if node.kind is not Kind.MAPPING:
        hint = f"for a default write {name}: {{default: {node.source}}}" if node.kind is Kind.SCALAR else None
        faults.error(node.position, f"the declaration of parameter '{name}' must be a type or a mapping", hint)
        return ParameterSpec(name=name)
    kind = node.field("type")
    minimum, maximum = (_read_bound(name, key, node.field(key), faults) for key in ("min", "max"))
    if minimum is not None and maximum is not None and minimum > maximum:
        faults.error(node.position, f"'min' of parameter '{name}' is larger than its 'max'")
    return ParameterSpec(
        name=name,
        type="string" if kind is None else text_of(kind) or "string",
        default=_read_default(name, node, faults),
        description=read_description(node.field("description"), faults),
        choices=_read_choices(name, node.field("choices"), faults),
        minimum=minimum,
        maximum=maximum,
        secret=_read_secret(name, node.field("secret"), faults),
        note=_note(node),
        is_null="default" in node.fields and node.field("default") is None,
    )


def _read_default(name: str, node: Node, faults: Faults) -> str | None:
    default = node.field("default")
    if default is None:
        return None
    problem = problem_of(default)
    if problem:
        faults.error(
            default.position, f"the default of parameter '{name}' can't be read: {problem}", "put it in quotes"
        )
        return None
    return text_of(default)


def _note(node: Node) -> str | None:
    """Return the problem of a text that looks like a default but is none, or None."""
    if node.field("default") is not None:
        return None
    if "default" in node.fields:
        return "its default is null, which means none"
    glued = next((key for key, field in node.fields.items() if GLUED_DEFAULT.match(key) and field.value.is_null), None)
    return None if glued is None else f"'{glued}' is not read as a default: write 'default: VALUE', with ': '"


def _read_bound(name: str, key: str, node: Node | None, faults: Faults) -> float | None:
    if node is None:
        return None
    number = number_of(node)
    if number is None or number != number:  # noqa: PLR0124
        faults.error(node.position, f"'{key}' of parameter '{name}' must be a number")
        return None
    return number


def _read_choices(name: str, node: Node | None, faults: Faults) -> tuple[str, ...]:
    if node is None:
        return ()
    if node.kind is not Kind.LIST or not all(item.kind is Kind.SCALAR for item in node.items):
        faults.warning(node.position, f"'choices' of parameter '{name}' is not a list of values, so it is not used")
        return ()
    return tuple(text_of(item) for item in node.items)


def _read_secret(name: str, node: Node | None, faults: Faults) -> bool:
    if node is None:
        return False
    if not isinstance(node.value, bool):
        faults.error(node.position, f"'secret' of parameter '{name}' must be true or false")
        return True
    return node.value
