"""Decides which repairs apply to a run, as far as that depends on its source and its environment manager."""

from runner.analysis.scripts import Scripts
from runner.environments.backends.registry import installs_packages
from runner.manifest import PathReplacement, find_replacements
from runner.model import Code, EnvironmentDeclaration, EnvironmentKind, ProjectFiles, RunRequest
from runner.source.opening import Source


def needs_environment(request: RunRequest, source: Source, code: Code) -> bool:
    """Return whether an environment file that the manifest names must exist.

    In a working tree a missing file is most likely a mistake that the user can correct, so it is an error. A commit
    can't be corrected: there the environment follows from the project's other files.
    """
    is_ours = installs_packages(request.environment_manager)
    return not request.repair or (is_ours and not may_replace_declared(request, source, code))


def may_replace_declared(request: RunRequest, source: Source, code: Code) -> bool:
    """Return whether repairs may replace the declared interpreter, pins and environment file.

    In a working tree the user can change the declaration, so that a replacement needs ``--repair``.
    """
    return request.repair and (request.replace_declared or not is_working_tree(source, code))


def is_working_tree(source: Source, code: Code) -> bool:
    """Return whether the code is a tree that is being edited: not in git, or with uncommitted changes."""
    return not source.frozen and (code.dirty or code.commit is None)


def expected_replacements(
    request: RunRequest, declaration: EnvironmentDeclaration, files: ProjectFiles, scripts: Scripts
) -> tuple[PathReplacement, ...]:
    """Return the paths of another machine that will be mapped to project files; none without our environments."""
    is_ours = installs_packages(request.environment_manager) and declaration.kind is not EnvironmentKind.DOCKER_ENV
    return find_replacements(scripts, files) if request.repair and is_ours else ()
