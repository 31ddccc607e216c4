"""Settings from the environment, and the layout of proj's home."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from runner.errors import UsageError


class Home(Struct, frozen=True):
    """The folder that holds everything proj keeps: ``PROJ_HOME``, else the platform's data folder."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite database of runs."""
        return self.root / "proj.db"

    @property
    def vault(self) -> Path:
        """The bare git repository of snapshots."""
        return self.root / "vault.git"

    @property
    def indexes(self) -> Path:
        """One git index per project, kept for its stat cache."""
        return self.root / "indexes"

    @property
    def mirrors(self) -> Path:
        """One bare git repository per URL."""
        return self.root / "mirrors"

    @property
    def locks(self) -> Path:
        """Resolved locks by what was resolved."""
        return self.root / "locks"

    @property
    def environments(self) -> Path:
        """Installed prefixes by identity."""
        return self.root / "environments"

    @property
    def folders(self) -> Path:
        """Run folders: where frozen trees are laid out and commands run."""
        return self.root / "folders"

    def run(self, run_id: str) -> Path:
        """Return the folder of the files kept with a run: log, lock, artifacts."""
        return self.root / "runs" / run_id

    def log(self, run_id: str) -> Path:
        """Return the file that keeps the output of a run's command."""
        return self.run(run_id) / "log.txt"

    def lock(self, run_id: str) -> Path | None:
        """Return the file that keeps the lock of a run's environment, called as its format is; None without one."""
        files = (self.run(run_id) / name for name in ("lock.txt", "conda-lock.yml"))
        return next((file for file in files if file.is_file()), None)

    def artifacts(self, run_id: str) -> Path:
        """Return the folder of a run's artifacts."""
        return self.run(run_id) / "artifacts"


def open_home(environ: Mapping[str, str] = os.environ) -> Home:
    """Return proj's home; nothing is created."""
    named = environ.get("PROJ_HOME")
    if named:
        return Home(Path(named).expanduser().absolute())
    from platformdirs import user_data_path

    return Home(user_data_path("proj", appauthor=False, roaming=sys.platform == "win32"))


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether the user asks proj to leave the network alone: ``PROJ_OFFLINE``, which ``--offline`` sets."""
    return environ.get("PROJ_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def offline_environment(environ: Mapping[str, str] = os.environ, *, asked: bool = False) -> Mapping[str, str]:
    """Return the variables, with uv's word for "no network" where the user asks for that."""
    return {**environ, "UV_OFFLINE": "1"} if asked or is_offline(environ) else environ


def experiment_asked(
    name: str | None, number: str | None, environ: Mapping[str, str] = os.environ
) -> tuple[str | None, str | None]:
    """Return name and id of the experiment that the user wants a run in: one of them, or none where nobody says.

    What the command or the caller says wins, then MLFLOW_EXPERIMENT_NAME. Inside a run, MLFLOW_EXPERIMENT_ID comes
    before that name: a parent run exports it to nested runs, which may inherit a name from the shell as well.

    Raises:
        UsageError: both are given.
    """
    if name and number:
        raise UsageError("an experiment's name and its id exclude each other", hint="give one of them")
    if name or number:
        return name or None, number or None
    number = environ.get("MLFLOW_EXPERIMENT_ID") if environ.get("PROJ_RUN_ID") else None
    return (None, number) if number else (environ.get("MLFLOW_EXPERIMENT_NAME") or None, None)


def tracking_uri(named: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return where the user wants a run to be recorded besides our own store, if anywhere.

    Args:
        named: what the command or the caller says; it wins.
        environ: the user's. Inside a run, MLFLOW_TRACKING_URI is the address of that run's own server.
    """
    from_environ = None if environ.get("PROJ_RUN_ID") else environ.get("MLFLOW_TRACKING_URI")
    return (named or from_environ or "").strip() or None
