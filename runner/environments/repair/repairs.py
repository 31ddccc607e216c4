"""Repairs declared requirements with known problems: old names, stubs, parts of conda, a missing mlflow."""

import posixpath
import re
from collections.abc import Iterator

from msgspec import structs

from runner.analysis.script_reader import SourcePosition
from runner.analysis.scripts import STANDARD_LIBRARY, Scripts
from runner.base.foreign_text import decode_text
from runner.base.package_names import canonical_name
from runner.environments.declare.requirement_line import Requirement, name_of, parse_line
from runner.environments.repair.import_names import RENAMED, package_of, provides
from runner.environments.specs import AnySpec, PythonSpec, is_changeable, with_packages
from runner.model import ProjectFiles

STUB_VERSION = r"\(?[=~<>!\s]*0\.0(\.post\d+|\.\d+)?\)?"
"""The versions of a stub, which do not apply to the intended package."""

STILL_PACKAGES = frozenset({"configparser", "contextvars", "dataclasses", "importlib"})
"""Modules of the standard library that are packages for older Pythons."""

OF_OLDER_PYTHONS = frozenset({"enum34", "futures", "unittest2", "pathlib", "typing", "asyncio"})
"""Backports of standard library modules for older Pythons, which break the module in newer ones."""

OF_CONDA = frozenset({"conda", "conda-build", "anaconda", "anaconda-navigator", "navigator-updater", "menuinst"})
"""Parts of conda itself, which `pip freeze` lists in a conda environment and pip can't install."""

METADATA = ("pyproject.toml", "setup.py", "setup.cfg")


def names_of(spec: PythonSpec) -> frozenset[str]:
    """Return the canonical names of the packages that a spec requires by name, URL or path."""
    found = (name_of(line) for line in (*spec.requirements, *spec.build_requirements))
    return frozenset(name for name in found if name)


def both_ways_out(spec: PythonSpec) -> str:
    """Return the hint for an environment that can't be built as a tree with changes declares it."""
    return (
        f"Change the version of the package, or `python`, in {spec.file or 'the environment file'}; or run with "
        "--repair, which replaces what can't be installed and records it."
    )


def repair_spec(spec: AnySpec, scripts: Scripts, files: ProjectFiles) -> AnySpec:
    """Return a spec with corrected package names, and with ``mlflow`` if the code imports it undeclared.

    The field ``repairs`` lists the changes.
    """
    if not is_changeable(spec):
        return spec
    repairs: list[str] = []
    python = spec.python
    kept: list[str] = []
    for line in spec.requirements:
        requirement = parse_line(line)
        if requirement and canonical_name(requirement.name) == "python":
            python = python or requirement.rest.strip("()= ") or None
            repairs.append(f"'{line}' is used as the version of Python")
        elif requirement and (reason := _not_needed(requirement, scripts)):
            repairs.append(f"'{line}' is left out: {reason}")
        else:
            kept.append(_renamed(line, requirement, repairs))
    spec = structs.replace(
        spec,
        requirements=tuple(dict.fromkeys(kept)),
        constraints=tuple(_renamed(line, parse_line(line), []) for line in spec.constraints),
        python=python,
        repairs=(*spec.repairs, *dict.fromkeys(repairs)),
    )
    return with_mlflow(spec, names_of(spec), scripts, files)


def _not_needed(requirement: Requirement, scripts: Scripts) -> str | None:
    name = canonical_name(requirement.name)
    if name in OF_CONDA and not any(provides(name, module.partition(".")[0]) for module in scripts.outside()):
        return "it is a part of conda, which pip can't install, and no code imports it"
    if ";" in requirement.rest:
        return None
    if name in OF_OLDER_PYTHONS:
        return "it is a backport for old Pythons and part of the standard library today"
    module = requirement.name.lower().replace("-", "_")
    if module in STANDARD_LIBRARY and module not in STILL_PACKAGES:
        return "it is a module of the standard library"
    return None


def _renamed(line: str, requirement: Requirement | None, repairs: list[str]) -> str:
    new = RENAMED.get(canonical_name(requirement.name)) if requirement else None
    if requirement is None or new is None:
        return line
    rest = "" if re.fullmatch(STUB_VERSION, requirement.rest) else requirement.rest
    repairs.append(f"'{line}' is replaced by '{new}{rest}', the package's name on the index")
    return f"{new}{requirement.extras}{rest}"


def with_mlflow(spec: PythonSpec, names: frozenset[str], scripts: Scripts, files: ProjectFiles) -> PythonSpec:
    """Add mlflow if the code imports it and no declared package provides it.

    Many projects do not declare it, because MLflow's own launcher does not require that.
    """
    wanted = {module.partition(".")[0]: position for module, position in reversed(scripts.outside().items())}
    position = wanted.get("mlflow")
    if position is None or any(provides(name, "mlflow") for name in names):
        return spec
    for package in spec.local_packages:
        folder = "" if package.path == "." else package.path
        for name in METADATA:
            if "mlflow" in decode_text(files.read(posixpath.join(folder, name)) or b""):
                return spec
    repair = f"'mlflow' is added: {format_position(position)} imports it but it is not declared"
    return with_packages(spec, ("mlflow",), (repair,))


def format_position(position: SourcePosition) -> str:
    """Format a position in a script as ``path:line``."""
    return f"{position.text}:{position.line}" if position.line else position.text


def wanted_packages(scripts: Scripts) -> Iterator[tuple[str, str | None, SourcePosition]]:
    """Yield each imported module from outside the project, the package that provides it, and the first import.

    Modules that the repository may contain are skipped unless a package certainly provides them.
    """
    seen: set[str | None] = set()
    for module, position in scripts.outside().items():
        package = package_of(module)
        top = module.partition(".")[0]
        key = package or top
        if key in seen or (package is None and top in scripts.elsewhere):
            continue
        seen.add(key)
        yield module if package else top, package, position
