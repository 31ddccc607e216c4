"""Runs uv: finds the binary, sets its variables, and turns its errors into messages."""

import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

from msgspec import Struct

from runner.base.masking import Masker
from runner.environments.declare.indexes import IndexOptions, expand
from runner.environments.declare.requirements import ARCHIVE
from runner.environments.resolve.build_failures import build_failure
from runner.environments.resolve.metadata_overrides import write_overrides
from runner.errors import EnvironmentSetupError, ProjError, UnbuildableError, disk_full_error
from runner.model import Event, EventKind, Report
from runner.process import Completed, Echo, Interrupted, ProcessRequest, Stdin, capture, run
from runner.settings import Home
from runner.urls import has_secret_query, without_credentials

KEPT = frozenset({
    *("UV_CACHE_DIR", "UV_CONFIG_FILE", "UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_BUILDS", "UV_CONCURRENT_INSTALLS"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER", "UV_NETRC", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
    *("UV_OFFLINE", "UV_HTTP_TIMEOUT", "UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_RETRIES", "UV_PYTHON_INSTALL_DIR"),
    *("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS", "UV_GIT_LFS", "UV_CREDENTIALS_DIR", "UV_TORCH_BACKEND"),
})  # fmt: skip
"""The variables of uv that are passed on: those for locations; others would change the resolved packages."""

DROPPED = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__"})
BEGUN = re.compile(r"(?m)^[ \t]*(?:Downloading|Building) (?P<name>\S+).*$")
ENDED = re.compile(r"(?m)^[ \t]*(?:Downloaded|Built) (?P<name>\S+)")
REPORT_INTERVAL = 2.0
"""Seconds between two checks of an installer's progress."""
UNBUILDABLE = re.compile(
    r"Failed to build|Failed building wheel|subprocess-exited-with-error|metadata-generation-failed"
)
PROGRESS = re.compile(
    r"warning:|Resolved|Using|Prepared|Looking in|Requirement already|\s*(?:Downloading|Downloaded|Building|Built|"
    r"Updating|Updated|Collecting|Obtaining|Processing|Using cached|Cloning)\b|.*\.\.\.$|.*: (?:started|still running)"
    r"|.*finished with status 'done'|\s*[━╸╺ ]+[\d.]+/"
)
"""Progress lines of an installer."""
NO_SPACE = re.compile(r"No space left on device|disk quota exceeded|os error (?:28|122)\b", re.IGNORECASE)
UNREACHABLE = re.compile(
    r"dns error|failed to lookup address|network is unreachable|connection refused|connect error|\(Connect\)"
    r"|operation timed out|error sending request|network was disabled",
    re.IGNORECASE,
)


class Uv(Struct, frozen=True, kw_only=True):
    """A uv binary with the variables that it runs with."""

    binary: str
    variables: Mapping[str, str]
    index: IndexOptions
    report: Report | None = None
    """Receives the progress of long commands."""

    @property
    def is_offline(self) -> bool:
        """Whether uv may not use the network."""
        return self.variables.get("UV_OFFLINE", "").lower() in ("1", "true", "yes")

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> Completed:
        """Run a short command of uv. If the network is unreachable, retry with the cache only."""
        return self._twice(arguments, lambda argv, env: capture(argv, cwd=cwd, env=env))

    def work(self, *arguments: str | Path, cwd: Path) -> Completed:
        """Run a long command of uv likewise. It ends with this process; its whole output is in `error_text`."""
        return self._twice(arguments, lambda argv, env: run_installer(argv, cwd, env, self.report))

    def _twice(
        self, arguments: Sequence[str | Path], start: Callable[[Sequence[str | Path], Mapping[str, str]], Completed]
    ) -> Completed:
        argv = [self.binary, *arguments, "--no-progress", "--color", "never"]
        done = start(argv, self.variables)
        if done.exit_code and UNREACHABLE.search(done.error_text) and not self.is_offline:
            again = start(argv, {**self.variables, "UV_OFFLINE": "1"})
            return done if again.exit_code else again
        return done


def run_installer(
    argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str], report: Report | None = None
) -> Completed:
    """Run an installer to its end. It and its children never outlive this process.

    Downloads and builds that take long are reported meanwhile.

    Raises:
        Interrupted: this process received a signal to stop.
    """
    from tempfile import TemporaryDirectory

    arguments = tuple(map(str, argv))
    with TemporaryDirectory(prefix="proj-") as folder:
        log = Path(folder) / "log"
        with _reporting(log, report):
            outcome = run(
                ProcessRequest(argv=arguments, cwd=cwd, env=env, log=log, echo=Echo.NONE, stdin=Stdin.NOTHING)
            )
        if outcome.stopped_by:
            raise Interrupted(Signals[outcome.stopped_by])
        output = log.read_bytes() if log.exists() else b""
    return Completed(argv=arguments, exit_code=outcome.exit_code, stdout=b"", stderr=output)


@contextmanager
def _reporting(log: Path, report: Report | None) -> Iterator[None]:
    """Report the progress of an installer until the end of the block: each long download or build once."""
    if report is None:
        yield
        return
    ended, reported = threading.Event(), set[str]()

    def report_progress() -> None:
        while not ended.wait(REPORT_INTERVAL):
            output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            for work in unfinished_work(output):
                if work not in reported:
                    reported.add(work)
                    report(Event(kind=EventKind.STEP, message=Masker().text(without_credentials(work))))

    thread = threading.Thread(target=report_progress, name="proj-installer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def unfinished_work(output: str) -> tuple[str, ...]:
    """Return the downloads and builds in an installer's output that have not ended; pip prints no end, so its last."""
    ended = {match["name"] for match in ENDED.finditer(output)}
    begun = [match for match in BEGUN.finditer(output) if match["name"] not in ended]
    return tuple(
        match[0].strip() for match in begun if not match["name"].endswith(ARCHIVE) or not output[match.end() :].strip()
    )


def find_uv(home: Home, index: IndexOptions, environ: Mapping[str, str], declared: Iterable[str] = ()) -> Uv:
    """Return the uv installed with proj, else the one on PATH; ``asked`` are the requirement lines to resolve.

    Raises:
        EnvironmentSetupError: uv is not installed.
    """
    variables = {
        name: value
        for name, value in environ.items()
        if name not in DROPPED and (not name.startswith("UV_") or name in KEPT)
    }
    # A separate cache, so that no environment of another tool is hard-linked to the same files.
    variables.setdefault("UV_CACHE_DIR", str(home.root / "cache" / "uv"))
    if any(has_secret_query(expand(line, environ)) for line in declared):
        variables["UV_NO_CACHE"] = "1"  # uv's cache stores URLs with their query, without user and password only
    variables.setdefault("SOURCE_DATE_EPOCH", "315532800")
    variables["COLUMNS"] = "10000"  # error messages are parsed line by line
    return Uv(binary=_binary(environ), variables=variables, index=index)


def _binary(environ: Mapping[str, str]) -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv", path=environ.get("PATH"))
    if not found:
        raise EnvironmentSetupError("uv is not installed", hint="pip install uv")
    return found


@contextmanager
def requirements_file(lines: Sequence[str], name: str = "requirements.in") -> Iterator[Path]:
    """Write lines, which may hold credentials, to a temporary file that only the user can read."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="proj-") as folder:
        path = Path(folder) / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        path.chmod(0o600)
        yield path


def command_error(what: str, done: Completed, log: Path, *, offline: bool = False) -> ProjError:
    """Return the error for a failed command of an installer, and write its whole output to ``log``.

    A full disk is no `EnvironmentSetupError`, so that nobody takes it for a fault of the declared packages.
    """
    output = Masker().text(without_credentials(f"{done.error_text}\n{done.text}".strip()))
    if NO_SPACE.search(output):
        return disk_full_error(next(line.strip() for line in output.splitlines() if NO_SPACE.search(line)))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(output + "\n", encoding="utf-8")
    lines = [line for line in output.splitlines() if line.strip() and not PROGRESS.match(line)]
    cause = build_failure(output)
    summary = "\n".join([*([cause] if cause else []), *lines[:MAX_LINES]])
    kind = UnbuildableError if UNBUILDABLE.search(output) else EnvironmentSetupError
    return kind(
        f"{what}:\n{summary}", context=f"the whole output is in {log}", hint=OFFLINE if offline else _hint(output)
    )


MAX_LINES = 14
OFFLINE = "The network is disabled, so only cached packages were considered. Enable it and try again."
HINTS = (
    (
        re.compile(r"filtered by `exclude-newer`.*published at"),
        "The version was published after that day. Set a later day ('--as-of DATE', or '--as-of now' for the newest).",
    ),
    (UNREACHABLE, "The package index can't be reached. Cached packages work without it; all others need a network."),
    (
        re.compile(r"was not found in the package registry|there are no versions of"),
        "Check the spelling of the package, or add the index that has it ('--extra-index-url' in the requirements).",
    ),
    (
        re.compile(r"no wheels with a matching|no wheels are usable|matching Python (ABI|version|implementation)"),
        "The pinned versions have no wheels for this Python: set another 'python' in the environment file.",
    ),
    (
        re.compile(r"requires Python|Requires-Python", re.IGNORECASE),
        "Another 'python' in the environment file may help.",
    ),
    (
        re.compile(r"Failed to build|build backend|failed with exit"),
        "A package is built from source. A compiler or headers may be missing, or this Python is too new for it.",
    ),
    (re.compile(r"[Hh]ash mismatch"), "The index has other files than those that the lock was made from."),
)


def _hint(output: str) -> str | None:
    flat = " ".join(output.split())
    return next((hint for pattern, hint in HINTS if pattern.search(flat)), None)


def clean_cwd(home: Home, *, completed: bool = False) -> Path:
    """Return a working directory for uv that has no project's configuration files above it.

    With ``completed``, uv started there adds requirements that are missing in the metadata of some releases.
    """
    folder = home.root / "cache"
    folder = folder / "completed" if completed else folder
    folder.mkdir(parents=True, exist_ok=True)
    write_overrides(folder, completed=completed)
    return folder
