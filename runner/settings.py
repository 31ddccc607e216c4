"""Settings from the environment, and the layout of proj's home."""

import os
import stat
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from runner.errors import HomeError, UsageError

LOCK_NAMES = ("lock.txt", "conda-lock.yml")
"""File names of the lock of a run's environment; one for each lock format."""
_FOLDERS = (
    "cache",
    "containers",
    "environments",
    "folders",
    "images",
    "indexes",
    "locks",
    "mirrors",
    "runs",
    "vault.git",
)
"""The folders that are created with the home, readable by the owner only."""

_ID_LENGTH = 32
"""Characters of a run's id, which is also the name of its folder."""

_MOST_BYTES = 480
"""Limit for the home's path: SQLite opens paths of at most 512 bytes (MAX_PATHNAME), and file names need the rest."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Exposure(Struct, frozen=True):
    """A warning that other users can access the home, and the command that prevents it."""

    message: str
    hint: str


class Home(Struct, frozen=True):
    """The folder that holds everything proj keeps: ``PROJ_HOME``, else the platform's data folder."""

    root: Path

    def ensure(self) -> None:
        """Create the home if it does not exist, accessible to its owner only, whatever the umask is.

        Raises:
            HomeError: the home can't be created.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, *map(self.root.joinpath, _FOLDERS)):
                try:
                    folder.mkdir(mode=stat.S_IRWXU)
                except FileExistsError:
                    continue
                folder.chmod(stat.S_IRWXU)  # a umask may also remove rights of the owner
        except OSError as error:
            raise unusable_home(self.root, error) from error

    def exposure(self) -> Exposure | None:
        """Return a warning if other users can access the home; None if they can't, or if it does not exist yet.

        Every command calls this; it costs one `stat`.

        Raises:
            HomeError: the home can't be inspected.
        """
        try:
            found = self.root.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable_home(self.root, error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise HomeError(f"proj's home is not a folder: {self.root}", hint="Set PROJ_HOME to a folder.")
        if found.st_uid != os.geteuid():
            hint = f"Change its owner (`chown -R {os.geteuid()} {_quoted(self.root)}`), or set PROJ_HOME."
            return Exposure(f"proj's home {self.root} belongs to another user (user id {found.st_uid})", hint)
        if found.st_mode & _OTHERS:
            can = "change" if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else "read"
            message = f"Other users of this machine can {can} proj's home {self.root}"
            return Exposure(message, f"chmod 700 {_quoted(self.root)}")
        return None

    def count_runs_without_store(self) -> int:
        """Return how many runs have files here although the database is missing; 0 if there is a database."""
        if self.database.exists():
            return 0
        try:
            with os.scandir(self.root / "runs") as entries:
                return sum(len(entry.name) == _ID_LENGTH for entry in entries)
        except OSError:
            return 0

    @property
    def database(self) -> Path:
        """The SQLite database of runs."""
        return self.root / "proj.db"

    @property
    def snapshot_store(self) -> Path:
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
        """Resolved locks, by the digest of what was resolved."""
        return self.root / "locks"

    @property
    def environments(self) -> Path:
        """The environment cache: installed prefixes by their identity."""
        return self.root / "environments"

    @property
    def folders(self) -> Path:
        """Run folders: checkouts of snapshots in which commands run."""
        return self.root / "folders"

    @property
    def reserve(self) -> Path:
        """A file that is deleted when the disk is full, so that the outcome of a run can still be written."""
        return self.root / "reserve"

    @property
    def models(self) -> Path:
        """The files of logged models."""
        return self.root / "runs" / "models"

    def run(self, run_id: str) -> Path:
        """Return the folder of the files kept with a run: log, lock, artifacts."""
        return self.root / "runs" / run_id

    def log(self, run_id: str) -> Path:
        """Return the file that keeps the output of a run's command."""
        return self.run(run_id) / "log.txt"

    def kept_log(self, run_id: str) -> str | None:
        """Return the path of the output of a run's command, or None if there is none; lists ask this for each run."""
        path = f"{self.root}/runs/{run_id}/log.txt"
        return path if os.path.isfile(path) else None  # noqa: PTH113  a Path takes longer to make than to look up

    def messages(self, run_id: str) -> Path:
        """Return the file that keeps what proj printed for a detached run."""
        return self.run(run_id) / "messages.txt"

    def lock(self, run_id: str) -> Path | None:
        """Return the file with the lock of a run's environment; its name follows its format. None without a lock."""
        files = (self.run(run_id) / name for name in LOCK_NAMES)
        return next((file for file in files if file.is_file()), None)

    def artifacts(self, run_id: str) -> Path:
        """Return the folder of a run's artifacts."""
        return self.run(run_id) / "artifacts"

    def kept_inputs(self, run_id: str) -> Path:
        """Return the folder of the inputs that came with an imported run; each file is named by its SHA-256."""
        return self.run(run_id) / "inputs"

    def kept_input(self, run_id: str, sha256: str) -> Path | None:
        """Return the file of an input that came with an imported run; None if there is none."""
        path = self.kept_inputs(run_id) / sha256
        return path if sha256.isalnum() and path.is_file() else None

    def packages(self, run_id: str) -> Path:
        """Return the folder of the packages that came with an imported run."""
        return self.run(run_id) / "packages"

    def model_artifacts(self, model_id: str) -> Path:
        """Return the folder of a logged model's artifacts."""
        return self.models / model_id / "artifacts"


def open_home(environ: Mapping[str, str] = os.environ) -> Home:
    """Return proj's home; nothing is created.

    Raises:
        HomeError: PROJ_HOME is not a path that git, uv and SQLite can work with.
    """
    named = environ.get("PROJ_HOME")
    try:
        if named:
            return Home(_checked(Path(named).expanduser().absolute()))
        from platformdirs import user_data_path

        return Home(_checked(user_data_path("proj", appauthor=False, roaming=sys.platform == "win32")))
    except (RuntimeError, OSError) as error:  # the user is unknown, or the current folder was removed
        raise HomeError("proj's home can't be found", context=str(error), hint="Set PROJ_HOME to a folder.") from error


def enter_home(warn: Callable[[Exposure], None], *, writing: bool = False) -> Home:
    """Return proj's home, created first if ``writing``; ``warn`` receives a warning if other users can access it.

    Raises:
        HomeError: the home can't be created or used.
    """
    home = open_home()
    if writing:
        home.ensure()
    exposure = home.exposure()
    if exposure is not None:
        warn(exposure)
    return home


def unusable_home(root: Path, error: OSError) -> HomeError:
    """Return the error for a home that can't be created or inspected."""
    if isinstance(error, NotADirectoryError | FileExistsError):
        context, hint = f"{error.filename} is not a folder", "Set PROJ_HOME to a folder."
    else:
        context, hint = f"{error.filename}: {error.strerror}", "Set PROJ_HOME to a folder that you can write to."
    return HomeError(f"proj's home can't be used: {root}", context=context, hint=hint)


def _checked(root: Path) -> Path:
    """Return the path of a home after checking it: git, uv and SQLite write it as text into files of lines."""
    text = str(root)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        shown = text.encode("unicode_escape", "surrogatepass").decode("ascii")
        message = f"The path of proj's home has control characters or bytes that are not UTF-8: {shown}"
        raise HomeError(message, hint="Set PROJ_HOME to a path without these characters.")
    if os.pathsep in text:
        message = f"The path of proj's home has a '{os.pathsep}', which separates the folders of PATH: {text}"
        raise HomeError(message, hint=f"Set PROJ_HOME to a path without '{os.pathsep}'.")
    if len(os.fsencode(text)) > _MOST_BYTES:
        message = f"The path of proj's home is longer than {_MOST_BYTES} bytes: {text[:60]}…"
        raise HomeError(message, hint="Set PROJ_HOME to a shorter path.")
    return root


def _quoted(path: Path) -> str:
    from shlex import quote

    return quote(str(path))


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether proj must not use the network: ``PROJ_OFFLINE`` is set, which ``--offline`` does too."""
    return environ.get("PROJ_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def offline_environment(environ: Mapping[str, str] = os.environ, *, forced: bool = False) -> Mapping[str, str]:
    """Return the variables, with ``UV_OFFLINE`` added if proj is offline or ``forced`` is set."""
    return {**environ, "UV_OFFLINE": "1"} if forced or is_offline(environ) else environ


def requested_experiment(
    name: str | None, number: str | None, environ: Mapping[str, str] = os.environ
) -> tuple[str | None, str | None]:
    """Return name and id of the requested experiment; at most one of them is set.

    The arguments win over MLFLOW_EXPERIMENT_NAME. Inside a run, MLFLOW_EXPERIMENT_ID wins over that name: a parent run
    exports it to nested runs, which may inherit a name from the shell as well.

    Raises:
        UsageError: both a name and an id are given.
    """
    if name and number:
        raise UsageError("an experiment is given by name and by id", hint="give only one of them")
    if name or number:
        return name or None, number or None
    number = environ.get("MLFLOW_EXPERIMENT_ID") if environ.get("PROJ_RUN_ID") else None
    return (None, number) if number else (environ.get("MLFLOW_EXPERIMENT_NAME") or None, None)


def tracking_uri(named: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the tracking URI at which a run is recorded in addition to the local store; None without one.

    Args:
        named: the URI from the command line or the caller; it wins over the environment.
        environ: the user's variables. Inside a run, MLFLOW_TRACKING_URI is that run's own server and is ignored.
    """
    from_environ = None if environ.get("PROJ_RUN_ID") else environ.get("MLFLOW_TRACKING_URI")
    return (named or from_environ or "").strip() or None


def user_name() -> str:
    """Return the name of the user, or the user id if there is no name."""
    from pwd import getpwuid

    try:
        return os.environ.get("LOGNAME") or os.environ.get("USER") or getpwuid(os.getuid()).pw_name
    except KeyError:  # no name for this user id, as in many containers
        return str(os.getuid())
