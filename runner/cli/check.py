"""``proj check``: reports all faults of a manifest at once."""

import re
from pathlib import Path

import click
import msgspec

from runner.analysis.scripts import Scripts, read_scripts
from runner.base.plurals import counted
from runner.cli.options import project_at
from runner.cli.text import print_lines, print_message, show_event
from runner.environments.deciding import decide_spec
from runner.environments.declare.spec import read_spec
from runner.environments.repair.missing import undeclared_imports
from runner.environments.specs import EnvironmentSpec, PythonSpec
from runner.errors import ManifestError, ProjError, UsageError
from runner.manifest import PlannedCommand, find_entry_point, preflight
from runner.manifest.checking import check_manifest, has_errors
from runner.manifest.files import FolderFiles
from runner.manifest.parser import find_manifest, read_manifest
from runner.manifest.preflight import names_disk
from runner.manifest.schema import json_schema
from runner.model import EnvironmentDeclaration, Fault, Manifest, Parameter, Severity, ValueSource
from runner.project_repairs import is_working_tree
from runner.settings import open_home
from runner.source.opening import open_source
from runner.source.snapshot import take_snapshot


@click.command("check")
@click.argument("path", default=".", type=click.Path(path_type=Path))
@click.option("--schema", is_flag=True, help="Print the JSON Schema of manifests and exit.")
@click.option("--run", "before_run", is_flag=True, help="Make the checks of `proj run` that need no environment.")
@click.option("-e", "--entry-point", metavar="NAME", help="With --run: the entry point to check. [default: main]")
@click.option("--json", "as_json", is_flag=True, help="Print the faults as JSON.")
def check(path: Path, schema: bool, before_run: bool, entry_point: str | None, as_json: bool) -> int:
    """Check the manifest of the project in the folder PATH without running anything.

    The exit code is 1 if there are errors; warnings do not count. With --run, check one entry point: also the files,
    paths and addresses that it needs, the repairs that a run would make, and imports without a declared package.

    \b
    Examples:
      proj check
      proj check --run -e main
    """  # noqa: D301  # click reads the control character
    if schema:
        click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
        return 0
    files = FolderFiles(_folder(path))
    faults = _run_faults(files, entry_point) if before_run else (*check_manifest(files), *_environment_faults(files))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(faults), indent=2).decode())
    else:
        _print(faults)
    return 1 if has_errors(faults) else 0


def _run_faults(files: FolderFiles, name: str | None) -> tuple[Fault, ...]:
    """Return the faults that prevent a run of an entry point; print its parameters and its environment."""
    manifest = _manifest_before_run(files)
    entry = find_entry_point(manifest, name, files)
    scripts = read_scripts(entry.command, files)
    defaults = tuple(
        Parameter(name=one.name, value=one.default, type=one.type, source=ValueSource.DEFAULT, secret=one.secret)
        for one in entry.parameters
        if one.default is not None
    )
    file = manifest.path or "the project"
    planned = PlannedCommand(
        entry_point=entry,
        manifest=file,
        files=files,
        scripts=scripts,
        parameters=defaults,
        project=files.root,
        redirects_local_tracking=True,
    )
    print_message(f"entry point '{entry.name}': {entry.command}")
    for one in entry.parameters:
        needed = f"default {one.default!r}" if one.default is not None and not one.secret else "required"
        print_message(
            f"  {one.name} ({one.type}, {'secret' if one.secret else needed}) {one.description or ''}".rstrip()
        )
    declaration = entry.environment or manifest.environment
    try:
        _print_environment(decide_spec(declaration, files, scripts, None), scripts)
        environment: tuple[Fault, ...] = ()
    except ProjError as error:
        environment = (_fault_of(error, declaration),)
    _print_redirects(scripts)
    return tuple(dict.fromkeys((*check_manifest(files, entry.name), *environment, *preflight(planned))))


def _manifest_before_run(files: FolderFiles) -> Manifest:
    """Read the manifest as a run does: a missing environment file is an error only in a working tree."""
    manifest = read_manifest(files, needs_environment=False)
    path = manifest.environment.path
    if path and files.read(path) is None:
        home = open_home()
        source = open_source(str(files.root), None, home, show_event)
        if is_working_tree(source, take_snapshot(source, home, show_event).code):
            return read_manifest(files)
    return manifest


def _print_environment(spec: EnvironmentSpec, scripts: Scripts) -> None:
    """Print the notices and repairs of the environment, and the imports that may be missing in it."""
    for notice in spec.notices:
        print_message(f"  {notice}")
    for repair in spec.repairs:
        print_message(f"  a run would repair: {repair}")
    undeclared = undeclared_imports(scripts, spec)
    if undeclared:
        imports = ", ".join(f"'{one.module}' ({one.wanted_by})" for one in undeclared)
        is_sure = spec.is_locked or (isinstance(spec, PythonSpec) and spec.project_lock is not None)
        more = "is locked" if is_sure else "is declared; it may come as a dependency of another package"
        print_message(f"  imported, but no package that provides it {more}: {imports}")


def _print_redirects(scripts: Scripts) -> None:
    for script in scripts.found:
        for uri in script.tracking:
            if names_disk(uri.text):
                print_message(f"  a run would redirect {uri.text} in {script.path}:{uri.line} to itself")


def _folder(path: Path) -> Path:
    """Return the project folder for a path: the folder itself, or the folder of a manifest."""
    if path.is_dir():
        return project_at(path)
    if path.is_file() and path.name == find_manifest(FolderFiles(path.parent)):
        return path.parent
    problem = "is not a manifest" if path.exists() else "does not exist"
    raise UsageError(f"'{path}' {problem}", hint="give the path of a project folder")


def _environment_faults(files: FolderFiles) -> tuple[Fault, ...]:
    """Return the faults of the environment files that the manifest names."""
    try:
        manifest = read_manifest(files)
    except ManifestError:
        return ()
    own = [entry.environment for entry in manifest.entry_points.values() if entry.environment]
    faults = (_environment_fault(declaration, files) for declaration in dict.fromkeys((manifest.environment, *own)))
    return tuple(fault for fault in faults if fault)


def _environment_fault(declaration: EnvironmentDeclaration, files: FolderFiles) -> Fault | None:
    try:
        read_spec(declaration, files)
    except ProjError as error:
        return _fault_of(error, declaration)
    return None


def _fault_of(error: ProjError, declaration: EnvironmentDeclaration) -> Fault:
    line = re.search(r"\bline (\d+)", error.message)
    return Fault(
        message=error.message,
        file=declaration.path or "docker_env",
        line=int(line[1]) if line else None,
        hint=error.hint,
    )


def _print(faults: tuple[Fault, ...]) -> None:
    for fault in faults:
        print_lines(f"{fault.location}: {fault.severity.value}: {fault.message}")
        if fault.hint:
            print_lines(f"    hint: {fault.hint}")
    errors = sum(fault.severity is Severity.ERROR for fault in faults)
    print_message(f"{counted(errors, 'error')}, {counted(len(faults) - errors, 'warning')}")
