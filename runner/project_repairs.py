"""Which repairs a run may expect, as far as that depends on whose code it is and where it runs."""

from runner.analysis.scripts import Scripts
from runner.environments.repair.deciding import WITHOUT_REPAIRS
from runner.manifest import Lead, find_leads
from runner.model import Code, EnvironmentDeclaration, EnvironmentKind, ProjectFiles, RunRequest
from runner.source.opening import Source


def needs_environment(request: RunRequest, source: Source, code: Code) -> bool:
    """Say whether an environment file that the manifest names must be there.

    In a tree that is being worked on it is most likely a slip of the pen. Of a commit it can't be mended, so that what
    else the project says of itself is taken.
    """
    is_ours = request.environment_manager not in WITHOUT_REPAIRS
    return not request.repair or (is_ours and is_being_edited(source, code))


def is_being_edited(source: Source, code: Code) -> bool:
    """Say whether code is of a tree that somebody works on: not in git, or not as it was committed."""
    return not source.frozen and (code.dirty or code.commit is None)


def expected_leads(
    request: RunRequest, declaration: EnvironmentDeclaration, files: ProjectFiles, scripts: Scripts
) -> tuple[Lead, ...]:
    """Return the paths that will be led to the project's own files, unless no environment of ours is made."""
    is_ours = request.environment_manager not in WITHOUT_REPAIRS and declaration.kind is not EnvironmentKind.DOCKER_ENV
    return find_leads(scripts, files) if request.repair and is_ours else ()
