"""Chooses the tool that solves and installs conda packages: py-rattler, or an executable that the user configured."""

from collections.abc import Sequence

from runner.environments.backends.conda.command import CondaCommand, find_executable, lock_with_conda_lock
from runner.environments.backends.conda.rattler import Rattler
from runner.environments.model import AnyRequest, CondaRequest
from runner.environments.resolve.conda.protocol import CondaTool
from runner.environments.resolve.conda.solve import CondaResolution
from runner.model import Report


def choose_tool(request: AnyRequest, platform: str, channels: tuple[str, ...]) -> CondaTool:
    """Return the executable that the user configured, else the library."""
    executable = find_executable(request.environ)
    kind = CondaCommand if executable else Rattler
    more = {"executable": executable} if executable else {}
    return kind(home=request.home, environ=request.environ, channels=channels, platform=platform, **more)


def lock_text(request: CondaRequest, platforms: Sequence[str], report: Report) -> str:
    """Return the lock for several platforms to be written beside a conda file.

    conda-lock makes it if the user configured a conda executable and conda-lock is installed.

    Raises:
        EnvironmentSetupError: no set of packages satisfies the file, or a channel or the index can't be reached.
    """
    log = request.home.locks / "conda-lock.log"
    text = lock_with_conda_lock(request, request.spec.conda, platforms, log)
    if text is not None:
        return text
    resolution = CondaResolution(request=request, choose=choose_tool, log=log, report=report)
    return resolution.solve_for_platforms(platforms)
