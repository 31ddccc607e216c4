"""Decides what the environment of a run is: as declared, repaired, or inferred where what is declared can't be had."""

from collections.abc import Callable

from msgspec import structs

from runner.environments.backends import BACKENDS
from runner.environments.inference import infer_spec
from runner.environments.repairs import repair_spec
from runner.environments.spec import read_spec
from runner.environments.words import EnvironmentSpec
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles
from runner.scripts import Scripts

CONTAINER = "container"
WITHOUT_REPAIRS = ("local", CONTAINER)
"""Members that take what is there, so that there is nothing to repair."""

ReadScripts = Callable[[], Scripts]
"""Reads the scripts of the run, which few decisions need."""


def decide_spec(
    declaration: EnvironmentDeclaration, files: ProjectFiles, scripts: ReadScripts, manager: str | None
) -> EnvironmentSpec:
    """Return what a run asks of its environment, with the repairs that old projects are known to need.

    Raises:
        EnvironmentSetupError: what is declared makes no sense.
    """
    if manager in WITHOUT_REPAIRS:
        return _as_declared(declaration, files)
    why = _why_not_declared(declaration, files, manager)
    if why is None:
        return repair_spec(read_spec(declaration, files), scripts(), files)
    spec = infer_spec(declaration, files, scripts(), why)
    return repair_spec(spec, scripts(), files)


def _as_declared(declaration: EnvironmentDeclaration, files: ProjectFiles) -> EnvironmentSpec:
    absent = _absent_file(declaration, files)
    if absent is None:
        return read_spec(declaration, files)
    return EnvironmentSpec(notices=(f"the environment file '{absent}' is not there, and nothing of it is needed",))


def _absent_file(declaration: EnvironmentDeclaration, files: ProjectFiles) -> str | None:
    path = declaration.path
    return path if path and files.read(path) is None else None


def _why_not_declared(declaration: EnvironmentDeclaration, files: ProjectFiles, manager: str | None) -> str | None:
    """Say why the declared environment can't be had, None where it can."""
    absent = _absent_file(declaration, files)
    if absent:
        return f"the environment file '{absent}' is not there"
    if declaration.kind is EnvironmentKind.DOCKER_ENV:
        if manager:
            return f"a container is declared, and '{manager}' is asked for"
        reason = BACKENDS[CONTAINER].why_not(read_spec(declaration, files))
        return f"the container that is declared can't be had ({reason})" if reason else None
    return "no environment is declared" if declaration.kind is EnvironmentKind.NONE else None


def with_requirements(spec: EnvironmentSpec, names: tuple[str, ...], repairs: tuple[str, ...]) -> EnvironmentSpec:
    """Return a spec that asks for more packages, and says so."""
    return structs.replace(
        spec,
        requirements=tuple(dict.fromkeys((*spec.requirements, *names))),
        repairs=tuple(dict.fromkeys((*spec.repairs, *repairs))),
    )
