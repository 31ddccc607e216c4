"""Settings from the environment, and the layout of proj's home."""

import os
import stat
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from runner.errors import HomeError, UsageError

LOCK_NAMES = ("lock.txt", "conda-lock.yml")
"""What the lock of a run's environment is called, by its format."""
_PARTS = (
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
"""The folders that are made with the home, each for its owner alone."""

_ID_LENGTH = 32
"""Characters of a run's id, which its folder is named after."""

_MOST_BYTES = 480
"""SQLite opens paths of at most 512 bytes (MAX_PATHNAME of its unix layer); the home's own files add a few."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Exposure(Struct, frozen=True):
    """Who else can get into the home, and the command that ends that."""

    message: str
    hint: str


class Home(Struct, frozen=True):
    """The folder that holds everything proj keeps: ``PROJ_HOME``, else the platform's data folder."""

    root: Path

    def ensure(self) -> None:
        """Make the home where it is not there yet: its owner's alone, whatever the umask is.

        Raises:
            HomeError: it can't be made.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, *map(self.root.joinpath, _PARTS)):
                try:
                    folder.mkdir(mode=stat.S_IRWXU)
                except FileExistsError:
                    continue
                folder.chmod(stat.S_IRWXU)  # a umask may take away more than others' rights
        except OSError as error:
            raise unusable_home(self.root, error) from error

    def exposure(self) -> Exposure | None:
        """Return who else can get into the home; None where nobody can, or there is none yet. It costs one stat.

        Raises:
            HomeError: the home can't be looked at.
        """
        try:
            found = self.root.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable_home(self.root, error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise HomeError(f"proj's home is not a folder: {self.root}", hint="Let PROJ_HOME name a folder.")
        if found.st_uid != os.geteuid():
            hint = f"Let it be yours (`chown -R {os.geteuid()} {_shown(self.root)}`), or set PROJ_HOME."
            return Exposure(f"proj's home {self.root} belongs to another user, with the id {found.st_uid}", hint)
        if found.st_mode & _OTHERS:
            can = "change" if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else "read"
            message = f"Other users of this machine can {can} proj's home {self.root}"
            return Exposure(message, f"chmod 700 {_shown(self.root)}")
        return None

    def count_runs_without_store(self) -> int:
        """Return how many runs have files here while there is no database; 0 where there is one."""
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

    @property
    def reserve(self) -> Path:
        """A file that is given up when the disk is full, so that a few rows can still be written."""
        return self.root / "reserve"

    def run(self, run_id: str) -> Path:
        """Return the folder of the files kept with a run: log, lock, artifacts."""
        return self.root / "runs" / run_id

    def log(self, run_id: str) -> Path:
        """Return the file that keeps the output of a run's command."""
        return self.run(run_id) / "log.txt"

    def lock(self, run_id: str) -> Path | None:
        """Return the file that keeps the lock of a run's environment, called as its format is; None without one."""
        files = (self.run(run_id) / name for name in LOCK_NAMES)
        return next((file for file in files if file.is_file()), None)

    def artifacts(self, run_id: str) -> Path:
        """Return the folder of a run's artifacts."""
        return self.run(run_id) / "artifacts"


def open_home(environ: Mapping[str, str] = os.environ) -> Home:
    """Return proj's home; nothing is created.

    Raises:
        HomeError: PROJ_HOME can't be the name of a folder that all parts can work in.
    """
    named = environ.get("PROJ_HOME")
    try:
        if named:
            return Home(_checked(Path(named).expanduser().absolute()))
        from platformdirs import user_data_path

        return Home(_checked(user_data_path("proj", appauthor=False, roaming=sys.platform == "win32")))
    except (RuntimeError, OSError) as error:  # the user is not known, or the current folder is gone
        raise HomeError("proj's home can't be found", context=str(error), hint="Set PROJ_HOME to a folder.") from error


def unusable_home(root: Path, error: OSError) -> HomeError:
    """Return the error for a home that can't be made or looked at."""
    if isinstance(error, NotADirectoryError | FileExistsError):
        context, hint = f"{error.filename} is not a folder", "Let PROJ_HOME name a folder."
    else:
        context, hint = f"{error.filename}: {error.strerror}", "Set PROJ_HOME to a folder that you can write to."
    return HomeError(f"proj's home can't be used: {root}", context=context, hint=hint)


def _checked(root: Path) -> Path:
    """Return the path of a home: git, uv and SQLite take it as text, in files of one line each."""
    text = str(root)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        shown = text.encode("unicode_escape", "surrogatepass").decode("ascii")
        message = f"proj's home has a name with control characters or bytes that are not UTF-8: {shown}"
        raise HomeError(message, hint="Set PROJ_HOME to a folder with a plain name.")
    if len(os.fsencode(text)) > _MOST_BYTES:
        message = f"The path of proj's home is longer than {_MOST_BYTES} bytes: {text[:60]}…"
        raise HomeError(message, hint="Set PROJ_HOME to a folder with a shorter path.")
    return root


def _shown(path: Path) -> str:
    from shlex import quote

    return quote(str(path))


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


def user_name() -> str:
    """Return the name of the user, or the number where there is no name."""
    from pwd import getpwuid

    try:
        return os.environ.get("LOGNAME") or os.environ.get("USER") or getpwuid(os.getuid()).pw_name
    except KeyError:  # no name for this user id, as in many containers
        return str(os.getuid())
