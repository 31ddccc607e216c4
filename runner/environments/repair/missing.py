"""Compares the imports of the code with the packages of an environment, and explains failed imports."""

import re
from collections.abc import Collection, Iterable

from msgspec import Struct

from runner.analysis.scripts import STANDARD_LIBRARY, Scripts
from runner.environments.model import Lock
from runner.environments.repair.import_names import package_of, provides
from runner.environments.repair.repairs import format_position, names_of, wanted_packages
from runner.environments.specs import EnvironmentSpec, PythonSpec, is_changeable
from runner.model import EnvironmentKind, Event, EventKind

FAILED = (
    r"(?m)^[ \t]*(?:\w+\.)*(?:ModuleNotFoundError|ImportError): (?:No module named '?(?P<module>[\w.]+)'?"
    r"|Missing optional dependency '(?P<optional>[\w.-]+)')"
)
PINNED = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?(?:==| @ )")
OF_SETUPTOOLS = ("distutils", "pkg_resources", "setuptools")
END = 4000
"""Characters at the end of a log in which the final error is searched."""
FRAME = re.compile(r'(?m)^[ \t]*File "(?P<file>[^"\n]+)", line \d+')
INSTALLED = re.compile(r"/(?:site|dist)-packages/(?P<top>[^/]+)")
IMPORT_SYSTEM = re.compile(r"<frozen |/importlib/__init__\.py$")
LONGEST_TRACEBACK = 16_000
"""Characters before an error in which the last frame of its traceback is searched."""


class MissingImport(Struct, frozen=True, kw_only=True):
    """A missing module, and the package that provides it, if that is certain."""

    module: str
    package: str | None = None
    wanted_by: str | None = None


def missing_imports(scripts: Scripts, spec: PythonSpec, lock: Lock) -> tuple[MissingImport, ...]:
    """Return the imports of the code that no package in the lock provides, except the project's own modules."""
    names = lock.names or PINNED.findall(lock.text)
    if spec.locked_by and not names:
        return ()
    return _without(names, scripts, spec)


def undeclared_imports(scripts: Scripts, spec: EnvironmentSpec) -> tuple[MissingImport, ...]:
    """Return the imports of the code that no declared package provides; dependencies may still provide them.

    With a lock in the project the result is exact.
    """
    if not isinstance(spec, PythonSpec) or spec.container or spec.locked_by:
        return ()
    names = tuple(names_of(spec)) + tuple(PINNED.findall(spec.project_lock.text if spec.project_lock else ""))
    return _without(names, scripts, spec)


def _without(names: Collection[str], scripts: Scripts, spec: PythonSpec) -> tuple[MissingImport, ...]:
    own = _own_modules(spec)
    return tuple(
        MissingImport(module=module, package=package, wanted_by=format_position(position))
        for module, package, position in wanted_packages(scripts)
        if module.partition(".")[0] not in own and not _is_provided(module, package, names)
    )


def _own_modules(spec: PythonSpec) -> frozenset[str]:
    return frozenset(re.split(r"[/@#\[]", package.path)[-1] for package in spec.local_packages)


def _is_provided(module: str, package: str | None, names: Iterable[str]) -> bool:
    top = module.partition(".")[0]
    wanted = [top] if "." not in module or package is None else [top, module]
    return any(provides(name, one) or name.lower() == (package or "").lower() for name in names for one in wanted)


def missing_import_warnings(missing: Iterable[MissingImport], spec: EnvironmentSpec) -> tuple[Event, ...]:
    """Return warnings about missing imports, for use before the environment is built."""
    known = [one for one in missing if one.package]
    unknown = [one for one in missing if not one.package]
    events = []
    if known:
        message = ", ".join(f"'{one.module}' ({one.wanted_by})" for one in known)
        hint = way_to_add([one.package or "" for one in known], spec)
        events.append(Event(kind=EventKind.WARNING, message=f"Nothing declared provides {message}", hint=hint))
    if unknown:
        message = ", ".join(f"'{one.module}' ({one.wanted_by})" for one in unknown)
        events.append(
            Event(
                kind=EventKind.WARNING,
                message=f"Nothing declared provides {message}, and no package is known that does",
                hint="an unrelated package may have this name, so none is installed: declare the package that you need",
            )
        )
    return tuple(events)


def way_to_add(packages: Iterable[str], spec: EnvironmentSpec) -> str:
    """Return a hint about how to install packages that the code imports."""
    names = tuple(dict.fromkeys(packages))
    if isinstance(spec, PythonSpec) and not spec.container and not is_changeable(spec):
        return (
            f"the project is locked, so --add-missing adds nothing: 'proj add {' '.join(names)}' updates the lock too"
        )
    return f"{line_to_add(names, spec)}, or run with --add-missing"


def line_to_add(packages: Iterable[str], spec: EnvironmentSpec) -> str:
    """Return a hint about the line to add to the environment file so that packages are installed."""
    names = list(dict.fromkeys(packages))
    if spec.kind is EnvironmentKind.CONDA_ENV:
        return f"add {', '.join(f'`- {name}`' for name in names)} to the `pip:` list of {spec.file}"
    if spec.kind is EnvironmentKind.PYTHON_ENV:
        return f"add {', '.join(f'`- {name}`' for name in names)} to `dependencies:` of {spec.file}"
    file = spec.file if spec.kind in (EnvironmentKind.REQUIREMENTS, EnvironmentKind.NONE) else None
    return f"add {', '.join(f'`{name}`' for name in names)} to {file or 'a requirements.txt'}"


class FailedImport(Struct, frozen=True):
    """The import that ended a command. ``inside`` is the installed package whose code has the import, or None."""

    module: str
    inside: str | None = None


def failed_import(log: str, prefix: str | None = None) -> FailedImport | None:
    """Find the failed import at the end of a command's log; ``prefix`` is the folder of its environment."""
    found = [match for match in re.finditer(FAILED, log) if len(log) - match.end() < END]
    if not found:
        return None
    last = found[-1]
    if last["optional"]:  # the package works without it, so the project has to declare it
        return FailedImport(last["optional"])
    frames = FRAME.findall(log[max(0, last.start() - LONGEST_TRACEBACK) : last.start()])
    files = [file for file in frames if not IMPORT_SYSTEM.search(file)]
    where = INSTALLED.search(files[-1]) if files and prefix and files[-1].startswith(f"{prefix}/") else None
    return FailedImport(last["module"], inside=where["top"].removesuffix(".py") if where else None)


def installed_provider(module: str, installed: Iterable[str]) -> str | None:
    """Return the installed package that most likely contains a missing module, or None."""
    top = module.partition(".")[0]
    return None if top in OF_SETUPTOOLS else next((name for name in installed if provides(name, top)), None)


def explain_failed_import(
    failed: FailedImport, spec: EnvironmentSpec, scripts: Scripts, installed: Iterable[str]
) -> Event:
    """Return a warning with advice about a module that was missing when the command ran."""
    module = failed.module
    top = module.partition(".")[0]
    package = package_to_add(failed, scripts)
    provider = installed_provider(module, installed)
    if provider:
        importer = f"'{failed.inside}', which is installed," if failed.inside else "the code"
        message = f"'{provider}' is installed but has no module '{module}': {importer} needs another version of it"
        return Event(
            kind=EventKind.WARNING, message=message, hint=f"pin the version of '{provider}' that the code needs"
        )
    if package is None and not failed.inside and top in scripts.elsewhere:
        folder = scripts.elsewhere[top] or "the project folder"
        message = f"'{top}' is in '{folder}' of the repository, which is not on the import path"
        return Event(kind=EventKind.WARNING, message=message, hint="make it a package, or set PYTHONPATH in `env:`")
    if package is None:
        hint = "if it belongs to the project, add it to the repository; else declare the package that provides it"
        hint = f"'{failed.inside}', which is installed, imports it" if failed.inside else hint
        return Event(kind=EventKind.WARNING, message=f"No package is known to provide '{module}'", hint=hint)
    hint = line_to_add([package], spec)
    if failed.inside:
        message = f"'{failed.inside}' imports '{module}' of the package '{package}' but does not declare it"
        return Event(kind=EventKind.WARNING, message=message, hint=hint)
    message = f"'{module}' is provided by the package '{package}'"
    return Event(kind=EventKind.WARNING, message=message, hint=way_to_add([package], spec))


def package_to_add(failed: FailedImport, scripts: Scripts) -> str | None:
    """Return the package that provides a missing module, or None if that is not certain."""
    module = failed.module
    top = module.partition(".")[0]
    if top in OF_SETUPTOOLS:
        return "setuptools"
    package = package_of(module)
    if package and top not in STANDARD_LIBRARY:
        return package
    return None if top in scripts.elsewhere and not failed.inside else package
