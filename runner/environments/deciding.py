"""Decides the spec of a run: as declared, repaired, or inferred if the declared environment is not available."""

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from runner.analysis.scripts import Scripts, above, find_module
from runner.base.lazy import LazyModule
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.backends.registry import backend_for, installs_packages
from runner.environments.model import AnyRequest, Lock, Prepared
from runner.environments.repair.import_names import package_of
from runner.environments.repair.missing import missing_import_warnings, missing_imports
from runner.environments.specs import AnySpec, NoSpec, PythonSpec, is_changeable, with_packages
from runner.model import EnvironmentDeclaration, EnvironmentKind, Event, EventKind, ProjectFiles, Report

if TYPE_CHECKING:
    from runner.environments.declare import spec as specs
    from runner.environments.repair import inference
else:
    inference = LazyModule("runner.environments.repair.inference")
    specs = LazyModule("runner.environments.declare.spec")


def decide_spec(
    declaration: EnvironmentDeclaration,
    files: ProjectFiles,
    scripts: Scripts,
    manager: str | None,
    *,
    refused: str | None = None,
) -> AnySpec:
    """Return the spec of a run, with repairs for known problems of old projects.

    ``refused`` is the reason why the declared environment is not available, if that was tried.

    Raises:
        EnvironmentSetupError: the declaration is invalid.
    """
    if not installs_packages(manager):
        return _as_declared(declaration, files)
    why = refused or _why_not_declared(declaration, files, manager)
    spec = inference.infer_spec(declaration, files, scripts, why) if why else specs.read_spec(declaration, files)
    return backend_for(manager, PythonSpec()).repair(spec, scripts, files)


def _as_declared(declaration: EnvironmentDeclaration, files: ProjectFiles) -> AnySpec:
    absent = _absent_file(declaration, files)
    if absent is None:
        return specs.read_spec(declaration, files)
    return NoSpec(notices=(f"the environment file '{absent}' does not exist; it is not needed",))


def _absent_file(declaration: EnvironmentDeclaration, files: ProjectFiles) -> str | None:
    path = declaration.path
    return path if path and files.read(path) is None else None


def _why_not_declared(declaration: EnvironmentDeclaration, files: ProjectFiles, manager: str | None) -> str | None:
    """Return the reason why the declared environment is not available, or None."""
    absent = _absent_file(declaration, files)
    if absent:
        return f"the environment file '{absent}' does not exist"
    if declaration.kind is EnvironmentKind.DOCKER_ENV:
        if manager:
            return f"a container is declared, but '{manager}' is requested"
        spec = specs.read_spec(declaration, files)
        reason = backend_for(None, spec).why_not(spec)
        return f"the declared container is not available ({reason})" if reason else None
    return "no environment is declared" if declaration.kind is EnvironmentKind.NONE else None


def lock_for_code(
    backend: EnvironmentBackend, request: AnyRequest, scripts: Scripts, report: Report, *, add_missing: bool
) -> tuple[AnyRequest, Lock | None]:
    """Return the lock of a request and the request itself; undeclared imports of the code are reported or added."""
    lock = backend.lock(request, report)
    if lock is None or not backend.capabilities.builds_prefixes:
        return request, lock
    spec = request.of(PythonSpec).spec
    missing = missing_imports(scripts, spec, lock)
    known = [one for one in missing if one.package]
    if add_missing and known and is_changeable(spec):
        repairs = tuple(f"'{one.package}' is added: {one.wanted_by} imports '{one.module}'" for one in known)
        names = tuple(one.package for one in known if one.package)
        spec = with_packages(spec, names, repairs)
        request = structs.replace(request, spec=spec)
        for repair in repairs:
            report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
        lock = backend.lock(request, lambda event: report(event) if event.kind is EventKind.STEP else None)
        missing = missing_imports(scripts, spec, lock) if lock else ()
    for event in missing_import_warnings(missing, spec):
        report(event)
    return request, lock


def with_own_packages(
    environment: Prepared, request: AnyRequest, scripts: Scripts, backend: EnvironmentBackend
) -> Prepared:
    """Add the folders of the project's own packages to the import path if the code imports them and no package does."""
    if not backend.capabilities.builds_prefixes or request.files is None:
        return environment
    folders = [posixpath.normpath(package.path) for package in request.of(PythonSpec).spec.local_packages]
    installed = tuple(posixpath.normpath(posixpath.join(one, inner)) for one in folders for inner in (".", "src", ".."))
    guesses: dict[str, str] = {}
    for module in scripts.outside():
        top = module.partition(".")[0]
        if package_of(module) is None and not find_module(top, request.files, installed):
            folder = next(_folders_with(top, request.files), None)
            if folder is not None:
                guesses.setdefault(folder or ".", top)
    if not guesses:
        return environment
    repairs = tuple(
        f"'{folder}' is added to the import path, because the code imports '{top}'" for folder, top in guesses.items()
    )
    record = structs.replace(environment.record, repairs=(*environment.record.repairs, *repairs))
    paths = tuple(dict.fromkeys((*environment.import_paths, *guesses)))
    return structs.replace(environment, record=record, import_paths=paths)


def _folders_with(module: str, files: ProjectFiles) -> Iterator[str]:
    """Yield the source roots of the repository from which a module can be imported, the nearest first."""
    for top in above(files):
        for folder in (top, posixpath.join(top, "src")):
            inside = files.names(posixpath.join(folder, module))
            if find_module(module, files, (folder,)) or any(name.endswith(".py") for name in inside):
                yield folder
