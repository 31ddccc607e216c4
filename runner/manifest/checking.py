"""Checks a manifest and reports all faults at once."""

import re
from collections.abc import Iterable
from shlex import quote

from runner.base.foreign_text import Position
from runner.base.suggestions import nearest, suggestion
from runner.errors import ManifestError
from runner.manifest.command_files import check_files
from runner.manifest.document import DocumentError, Kind, Node
from runner.manifest.entries import GLUED_DEFAULT
from runner.manifest.faults import Faults, quoted
from runner.manifest.parameters import wrong_type
from runner.manifest.parser import EXACT, explain_absence, parse_manifest
from runner.manifest.schema import DOCKER, ENTRY_POINT, ENVIRONMENTS, OTHER_NAMES, PARAMETER, TOP, TYPES
from runner.manifest.template import fill_template, protect_shell_braces
from runner.model import EntryPoint, EnvironmentKind, Fault, Manifest, ParameterSpec, ProjectFiles, Severity

NOTHING = ("", "none", "null", "nan")
"""Defaults that mean "no value" for every type."""
GLUED_TYPE = re.compile(r"type\s*[:= ]\s*\S")
LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_NO_ENTRY_POINTS = "there are no entry points, so only scripts can be run"
_SCRIPTS = "as in proj run . -e train.py; or add entry_points with a command"
OTHER_ENVIRONMENT_FILES = ("conda.yml", "environment.yml", "environment.yaml", "python_env.yml")


def check_manifest(files: ProjectFiles, run: str | None = None) -> tuple[Fault, ...]:
    """Return all faults in the manifest of a project, in the order of the file.

    With ``run``, only faults of that entry point are returned. Missing files are left out: a run repairs some of them,
    and `preflight` reports the others.
    """
    try:
        reading = parse_manifest(files, needs_environment=run is None)
    except DocumentError as error:
        return (error.fault,)
    except ManifestError as error:
        return (Fault(message=error.message, file=EXACT, hint=error.hint),)
    manifest = reading.manifest
    faults = Faults(reading.faults.file)
    if manifest.path is None:
        faults.error(None, "there is no MLproject in this folder", explain_absence(files))
    _check_names(files, manifest, faults)
    if reading.document is None and manifest.path is not None:
        faults.warning(None, f"the file is empty: {_NO_ENTRY_POINTS}", _SCRIPTS)
    if reading.document is not None and manifest.path is not None:
        _check_top(reading.document, manifest, faults)
        entries = reading.document.field("entry_points")
        lines = LINE_END.split((files.read(manifest.path) or b"").decode("utf-8", "replace"))
        for name, field in entries.fields.items() if entries is not None else ():
            if field.value.kind is Kind.MAPPING and run in (None, name):
                _check_entry_point(field.value, manifest.entry_points[name], files if run is None else None, faults)
                _check_command(field.value, manifest.entry_points[name], lines, faults)
    concerned = [entry for entry in manifest.entry_points.values() if run in (None, entry.name)]
    found = [*reading.faults.found, *(fault for entry in concerned for fault in entry.faults)]
    unique = dict.fromkeys((*found, *faults.found))
    return tuple(sorted(unique, key=lambda fault: (fault.line or 0, fault.column or 0)))


def _check_names(files: ProjectFiles, manifest: Manifest, faults: Faults) -> None:
    others = [name for name in files.names() if name.lower() == EXACT.lower() and name != manifest.path]
    if others and manifest.path:
        faults.warning(None, f"{quoted(others)} is not read beside '{manifest.path}'", "keep one of them")
    if manifest.path and manifest.environment.kind in (EnvironmentKind.NONE, EnvironmentKind.REQUIREMENTS):
        for name in files.names():
            if name in OTHER_ENVIRONMENT_FILES:
                hint = f"name it: {'python_env' if name.startswith('python') else 'conda_env'}: {name}"
                faults.warning(None, f"'{name}' is not read, because no key names it", hint)


def _check_top(document: Node, manifest: Manifest, faults: Faults) -> None:
    _check_keys(document, TOP, "", faults, elsewhere=ENTRY_POINT)
    docker = document.field("docker_env")
    if docker is not None:
        _check_keys(docker, DOCKER, "'docker_env'", faults)
    _check_duplicates(document, set(), faults)
    entries = document.field("entry_points")
    if entries is None or entries.kind is not Kind.MAPPING or not entries.fields:
        if not document.field("databricks_spark_job"):
            faults.warning(document.position, _NO_ENTRY_POINTS, _SCRIPTS)
        return
    _check_circles(manifest, entries, faults)


def _check_keys(node: Node, known: Iterable[str], where: str, faults: Faults, elsewhere: Iterable[str] = ()) -> None:
    """Warn of unknown keys, except those that begin with ``x-``, which are free for anchors and notes."""
    for name, field in node.fields.items():
        if name in known or name.startswith("x-"):
            continue
        near = nearest(name, known)
        hint = f"did you mean '{near}'?" if near else None
        if near is None and name in elsewhere:
            hint = "it belongs elsewhere: to an entry point" if not where else "it belongs to the top level"
        faults.warning(field.key.position, f"'{name}' is not read{f' in {where}' if where else ''}", hint)


def _check_duplicates(node: Node, seen: set[int], faults: Faults) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    for key in node.duplicates:
        line = node.fields[key.source].key.position.line
        faults.warning(key.position, f"'{key.source}' is written twice, and only the last one counts (line {line})")
    for part in (*node.items, *(field.value for field in node.fields.values())):
        _check_duplicates(part, seen, faults)


def _check_circles(manifest: Manifest, entries: Node, faults: Faults) -> None:
    """Report cycles of entry points in ``needs``."""
    for name in manifest.entry_points:
        reached: set[str] = set()
        ahead = [name]
        while ahead:
            entry = manifest.entry_points.get(ahead.pop())
            new = [needed for needed in entry.needs if needed not in reached] if entry else []
            reached.update(new)
            ahead += new
        if name in reached:
            faults.error(entries.fields[name].key.position, f"entry point '{name}' needs itself")


def _check_entry_point(node: Node, entry: EntryPoint, files: ProjectFiles | None, faults: Faults) -> None:
    where = f"entry point '{entry.name}'"
    _check_keys(node, ENTRY_POINT, where, faults, elsewhere=ENVIRONMENTS)
    parameters = node.field("parameters")
    if parameters is not None and parameters.kind is Kind.MAPPING:
        for spec in entry.parameters:
            field = parameters.fields[spec.name]
            _check_declaration(field.value, spec, faults)
            _check_default(field.value, spec, faults)
    command = node.field("command")
    if files is not None and command is not None and command.is_text:
        check_files(command.position, entry, files, faults)


def _check_declaration(node: Node, spec: ParameterSpec, faults: Faults) -> None:
    """Check the keys and the type of one parameter."""
    if node.is_null:
        faults.warning(node.position, f"parameter '{spec.name}' has no declaration; MLflow crashes on it")
    for name, field in node.fields.items():
        if name in PARAMETER or name.startswith("x-"):
            continue
        if GLUED_DEFAULT.match(name) and field.value.is_null:
            faults.error(field.key.position, f"'{name}' is not read as a default", "write 'default: VALUE', with ': '")
        elif GLUED_TYPE.match(name) and field.value.is_null:
            faults.warning(field.key.position, f"'{name}' is not read as a type", "write 'type: NAME', with ': '")
        else:
            near = nearest(name, PARAMETER)
            hint = f"did you mean '{near}'?" if near else None
            if name in ("required", "optional"):
                hint = "a parameter is required exactly when it has no default"
            faults.warning(field.key.position, f"'{name}' is not read in parameter '{spec.name}'", hint)
    type_name = spec.type.lower()
    if type_name not in TYPES and type_name not in OTHER_NAMES:
        kind = node.field("type")
        hint = suggestion(type_name, [*TYPES, *OTHER_NAMES])
        if hint:
            position = node.position if kind is None else kind.position
            faults.warning(position, f"the type '{spec.type}' of parameter '{spec.name}' means any text", hint)


def _check_default(node: Node, spec: ParameterSpec, faults: Faults) -> None:
    """Check the default of one parameter; a run accepts every default."""
    default = node.fields.get("default")
    if default is None:
        return
    if spec.default is None:
        if default.value.is_null:
            wanted = wrong_type(spec.type.lower(), "")
            hint = f"take it out, or write {wanted or 'a default such as'}" + ("" if wanted else ' "" or the text None')
            message = f"'default: null' is no default: parameter '{spec.name}' is required"
            faults.warning(default.key.position, message, hint)
        return
    if default.value.lone_equals:
        faults.warning(
            default.value.position, f"MLflow can't read the default '=' of '{spec.name}'", "put it in quotes"
        )
    if spec.secret and spec.default:
        faults.warning(default.key.position, f"the default of the secret parameter '{spec.name}' is in the file")
        return
    wanted = None if spec.default.lower() in NOTHING else wrong_type(spec.type.lower(), spec.default)
    if wanted:
        faults.warning(default.value.position, f"the default of '{spec.name}' is not {wanted}: '{spec.default}'")
    elif spec.choices and spec.default not in spec.choices:
        faults.warning(default.value.position, f"the default of '{spec.name}' is none of its choices: '{spec.default}'")


def _check_command(node: Node, entry: EntryPoint, lines: list[str], faults: Faults) -> None:
    """Render a command with its defaults, and compare the parameters that it uses with the declared ones."""
    command, parameters = node.field("command"), node.field("parameters")
    if command is None or not command.is_text or (parameters is not None and parameters.kind is not Kind.MAPPING):
        return
    values = {spec.name: quote(spec.default or "x") for spec in entry.parameters}
    filled = fill_template(entry.command, values)
    for fault in filled.faults:
        message = f"in the command of '{entry.name}': {fault.message}"
        faults.error(_position_of(fault.text, command, lines), message, fault.hint)
    if not filled.faults and protect_shell_braces(entry.command, values) != entry.command:
        hint = "for both write $NAME, or ${{NAME}}"
        position = _position_of("${", command, lines)
        faults.warning(position, f"MLflow can't run '{entry.name}': it takes ${{…}} for a placeholder", hint)
    unused = [spec.name for spec in entry.parameters if spec.name not in filled.used]
    for name in unused if parameters is not None and not filled.faults else ():
        declared = parameters.fields[name].key.position if parameters is not None else None
        faults.warning(declared, f"the command of '{entry.name}' does not use parameter '{name}'")
    for name in sorted(filled.used):
        for mark in ("'", '"'):
            text = f"{mark}{{{name}}}{mark}"
            if text in entry.command:
                hint = f"values are quoted already: write {{{name}}} without quotes"
                position = _position_of(f"{{{name}}}", command, lines)
                faults.warning(position, f"{text} gets quotes inside quotes where a value has spaces", hint)


def _position_of(text: str, command: Node, lines: list[str]) -> Position:
    """Return the position of a part of a command; if the part is not found, the start of the command."""
    for number in range(command.position.line, command.last_line + 1) if text else ():
        start = command.position.column - 1 if number == command.position.line else 0
        column = lines[number - 1].find(text, start) if number <= len(lines) else -1
        if column >= 0:
            return Position(number, column + 1)
    return command.position


def has_errors(faults: Iterable[Fault]) -> bool:
    """Return whether a fault keeps a part of the manifest from running."""
    return any(fault.severity is Severity.ERROR for fault in faults)
