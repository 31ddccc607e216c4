"""Repairs what a declared environment asks for where it is known to keep old projects from running."""

import posixpath
import re
from collections.abc import Iterator

from msgspec import structs

from runner.analysis.script_reader import SourcePosition
from runner.analysis.scripts import STANDARD_LIBRARY, Scripts
from runner.base.foreign_text import decode_text
from runner.environments.declare.requirement_line import Requirement, name_of, parse_line
from runner.environments.model import EnvironmentSpec, with_packages
from runner.environments.repair.import_names import RENAMED, normalise, package_of, provides
from runner.model import ProjectFiles

STUB_VERSION = r"\(?[=~<>!\s]*0\.0(\.post\d+|\.\d+)?\)?"
"""The versions of a stub, which say nothing about the package that is meant."""

STILL_PACKAGES = frozenset({"configparser", "contextvars", "dataclasses", "importlib"})
"""Modules of the standard library that some Pythons need as a package."""

OF_OLDER_PYTHONS = frozenset({"enum34", "futures", "unittest2", "pathlib", "typing", "asyncio"})
"""Packages that once brought a module of today's standard library to older Pythons, and break it in newer ones."""

OF_CONDA = frozenset({"conda", "conda-build", "anaconda", "anaconda-navigator", "navigator-updater", "menuinst"})
"""Parts of conda itself, which `pip freeze` lists in an environment of conda and pip can't install."""

METADATA = ("pyproject.toml", "setup.py", "setup.cfg")


def names_of(spec: EnvironmentSpec) -> frozenset[str]:
    """Return the normalised names of what a spec asks for, by name, URL or path."""
    found = (name_of(line) for line in (*spec.requirements, *spec.build_requirements))
    return frozenset(name for name in found if name)


def is_changeable(spec: EnvironmentSpec) -> bool:
    """Say whether there is anything that may be changed: a lock is taken as it is."""
    return not (spec.is_locked or spec.locked_by or spec.project_lock or spec.container)


def repair_spec(spec: EnvironmentSpec, scripts: Scripts, files: ProjectFiles) -> EnvironmentSpec:
    """Return a spec with names that mean something else today put right, and with ``mlflow`` if only the code says so.

    What was done is in ``repairs``.
    """
    if not is_changeable(spec):
        return spec
    repairs: list[str] = []
    python = spec.python
    kept: list[str] = []
    for line in spec.requirements:
        asked = parse_line(line)
        if asked and normalise(asked.name) == "python":
            python = python or asked.rest.strip("()= ") or None
            repairs.append(f"'{line}' is taken as the version of Python")
        elif asked and (reason := _not_needed(asked, scripts)):
            repairs.append(f"'{line}' is left out: {reason}")
        else:
            kept.append(_renamed(line, asked, repairs))
    spec = structs.replace(
        spec,
        requirements=tuple(dict.fromkeys(kept)),
        constraints=tuple(_renamed(line, parse_line(line), []) for line in spec.constraints),
        python=python,
        repairs=(*spec.repairs, *dict.fromkeys(repairs)),
    )
    return with_mlflow(spec, names_of(spec), scripts, files)


def _not_needed(asked: Requirement, scripts: Scripts) -> str | None:
    name = normalise(asked.name)
    if name in OF_CONDA and not any(provides(name, module.partition(".")[0]) for module in scripts.outside()):
        return "it is a part of conda, which pip can't install, and no code imports it"
    if ";" in asked.rest:
        return None
    if name in OF_OLDER_PYTHONS:
        return "it is for Pythons that are no longer used, and part of the standard library since"
    module = asked.name.lower().replace("-", "_")
    if module in STANDARD_LIBRARY and module not in STILL_PACKAGES:
        return "it is a module of the standard library"
    return None


def _renamed(line: str, asked: Requirement | None, repairs: list[str]) -> str:
    new = RENAMED.get(normalise(asked.name)) if asked else None
    if asked is None or new is None:
        return line
    rest = "" if re.fullmatch(STUB_VERSION, asked.rest) else asked.rest
    told = f"'{line}' is '{new}{rest}'"
    repairs.append(f"{told}: that is the package's name on the index")
    return f"{new}{asked.extras}{rest}"


def with_mlflow(spec: EnvironmentSpec, names: frozenset[str], scripts: Scripts, files: ProjectFiles) -> EnvironmentSpec:
    """Add mlflow where the code imports it and none of the declared names brings it.

    MLflow's own launcher needs no declaration, so many have none.
    """
    wanted = {module.partition(".")[0]: place for module, place in reversed(scripts.outside().items())}
    place = wanted.get("mlflow")
    if place is None or any(provides(name, "mlflow") for name in names):
        return spec
    for package in spec.local_packages:
        folder = "" if package.path == "." else package.path
        for name in METADATA:
            if "mlflow" in decode_text(files.read(posixpath.join(folder, name)) or b""):
                return spec
    told = f"'mlflow' is added: {at(place)} imports it and nobody declares it"
    return with_packages(spec, ("mlflow",), (told,))


def at(place: SourcePosition) -> str:
    """Return a place in a script as compilers write it."""
    return f"{place.text}:{place.line}" if place.line else place.text


def wanted_packages(scripts: Scripts) -> Iterator[tuple[str, str | None, SourcePosition]]:
    """Yield each module that comes from outside, the package that surely provides it, and who wants it.

    Modules that the repository itself may have are left out unless a package is sure to be meant.
    """
    seen: set[str | None] = set()
    for module, place in scripts.outside().items():
        package = package_of(module)
        top = module.partition(".")[0]
        key = package or top
        if key in seen or (package is None and top in scripts.elsewhere):
            continue
        seen.add(key)
        yield module if package else top, package, place
