"""Locks and changes projects with a ``uv.lock``, with uv's own commands."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from runner.cli.home import enter_home
from runner.cli.text import print_lines, print_message
from runner.environments.declare.indexes import index_options
from runner.environments.resolve.locking import format_time
from runner.environments.resolve.uv_command import command_error, find_uv
from runner.environments.specs import UvLockSpec
from runner.process import Completed
from runner.settings import Home

LOCK = "uv.lock"


def check_uv_lock(folder: Path, spec: UvLockSpec, environ: Mapping[str, str]) -> int:
    """Print whether a ``uv.lock`` is up to date; return 1 if it is not."""
    done = run_uv(_project(folder, spec), enter_home(), environ, "lock", "--check")
    print_lines(f"{spec.file}: {'does not match' if done.exit_code else 'is up to date with'} pyproject.toml")
    if done.exit_code:
        print_message("hint: 'proj lock' updates the lock")
    return 1 if done.exit_code else 0


def update_uv_lock(
    folder: Path,
    spec: UvLockSpec,
    home: Home,
    environ: Mapping[str, str],
    *,
    upgrade: tuple[str, ...],
    day: datetime | None,
) -> Path:
    """Bring a ``uv.lock`` up to date and return its path; ``day`` is the package cutoff date, if one was given.

    Raises:
        EnvironmentSetupError: no set of packages satisfies the pyproject.toml, or the index can't be reached.
    """
    project = _project(folder, spec)
    options = [word for name in upgrade for word in ("--upgrade-package", name)]
    options += ["--exclude-newer", format_time(day) or ""] if day else []
    done = run_uv(project, home, environ, "lock", *options)
    if done.exit_code:
        raise command_error(f"{spec.file} can't be updated", done, home.locks / "universal.log")
    print_message(f"{spec.file} is the lock of pyproject.toml; runs use exactly what it has")
    return project / LOCK


def change_uv_project(project: Path, home: Home, environ: Mapping[str, str], action: str, names: list[str]) -> None:
    """Add packages to a ``pyproject.toml``, or remove them, and lock; ``action`` is uv's command.

    Raises:
        EnvironmentSetupError: uv refuses the change; both files are as they were.
    """
    done = run_uv(project, home, environ, action, "--no-sync", *names)
    if done.exit_code:
        verb = "added" if action == "add" else "removed"
        raise command_error(f"{', '.join(names)} can't be {verb}", done, home.locks / "universal.log")


def run_uv(project: Path, home: Home, environ: Mapping[str, str], *options: str) -> Completed:
    """Run a command of uv for the project in a folder, with the configuration of the project."""
    uv = find_uv(home, index_options((), environ), environ)
    return uv.work(options[0], "--project", project, *options[1:], cwd=project)


def _project(folder: Path, spec: UvLockSpec) -> Path:
    return (folder / (spec.file or LOCK)).parent
