"""Runs git commands without hooks, prompts, optional locks or inherited repository settings."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TypeVar

from msgspec import Struct

from runner.errors import ExecutionError, GitError, SnapshotError
from runner.process import OUTPUT_LIMIT, Bounds, Completed, capture
from runner.source.stalling import find_blocking_file

T = TypeVar("T")

_OURS = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LANGUAGE": "C",
}
"""git fetches nothing, not even missing objects of a partial clone; mirrors allow the protocols that they use.
``LANGUAGE`` keeps messages in English, because some are parsed; the locale is unchanged for the user's filters."""

_KEPT = (
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_"),
    *("GIT_CONFIG_VALUE_", "GIT_SSH", "GIT_SSL", "GIT_PROXY", "GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_HTTP", "GIT_CURL"),
)
"""Variables for the user's identity and network. The other ``GIT_*`` variables select a repository and are dropped."""

Settings = Sequence[tuple[str, str]]
NOTHING: Mapping[str, str] = {}

_CONFIG = (
    *(("core.fsmonitor", "false"), ("core.hooksPath", os.devnull), ("safe.directory", "*"), ("core.pager", "cat")),
    *(("diff.external", ""), ("core.alternateRefsCommand", "false"), ("log.showSignature", "false")),
    *(("maintenance.auto", "false"), ("gc.auto", "0")),
)
"""No program of the repository's configuration starts. Every call names its repository, so git's ownership check
(``safe.directory``) is not needed."""

_CUT_OFF = (
    *(("core.sshCommand", "false"), ("core.gitProxy", "false"), ("core.askPass", "false"), ("credential.helper", "")),
    ("protocol.allow", "never"),
)
"""Disables programs that only a fetch needs: proj fetches into its mirrors, never into a user's repository."""

CONTENT_LIMIT = 4 << 30
"""Bytes of files that one git command may print."""
TIME_LIMIT = 3600.0
"""Seconds after which git is stopped; reading 100,000 files from a slow disk takes minutes."""
NETWORK_TIME_LIMIT = 6 * 3600.0
"""Seconds after which a fetch is stopped; a stalled connection ends earlier."""


class GitDirectory(Struct, frozen=True, kw_only=True):
    """The repository, work tree and index of a git command.

    git reads objects from ``alternates`` but does not write there. ``objects`` is the folder for new objects; by
    default it is the repository's own.
    """

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None
    alternates: tuple[Path, ...] = ()
    objects: Path | None = None

    def variables(self) -> dict[str, str]:
        """Return the environment variables that select this repository."""
        found = {"GIT_DIR": str(self.git_dir)}
        if self.work_tree:
            found["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index:
            found["GIT_INDEX_FILE"] = str(self.index)
        if self.objects:
            found["GIT_OBJECT_DIRECTORY"] = str(self.objects)
        if self.alternates:
            found["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(_quoted(path) for path in self.alternates)
        return found


def _quoted(path: Path) -> str:
    """Quote a path of GIT_ALTERNATE_OBJECT_DIRECTORIES that contains a separator or a quote, as git(1) requires."""
    text = str(path)
    if os.pathsep not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def git_environment(settings: Settings = (), variables: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the environment for git: the caller's without variables that select a repository, plus proj's settings.

    Settings are passed in ``GIT_CONFIG_*``, because other users can read the arguments of a command.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    found.update(_OURS)
    count = found.get("GIT_CONFIG_COUNT", "")
    start = int(count) if count.isdecimal() else 0
    for number, (name, value) in enumerate((*_CONFIG, *settings), start):
        found[f"GIT_CONFIG_KEY_{number}"] = name
        found[f"GIT_CONFIG_VALUE_{number}"] = value
        found["GIT_CONFIG_COUNT"] = str(number + 1)
    found.update(variables)
    return found


def run_git(
    git_directory: GitDirectory,
    *arguments: str | Path,
    stdin: bytes = b"",
    settings: Settings = (),
    variables: Mapping[str, str] = NOTHING,
    limit: int = OUTPUT_LIMIT,
    watch: Callable[[bytes], None] | None = None,
) -> Completed:
    """Run git on a repository and return its output and exit code; ``watch`` gets its error output at once.

    Raises:
        SnapshotError: git exceeds the time limit, prints more than ``limit`` bytes, or waits for a pipe.
    """
    around = {**git_directory.variables(), **variables}
    is_fetch = "GIT_ALLOW_PROTOCOL" in variables
    try:
        return capture(
            ["git", *arguments],
            cwd=git_directory.work_tree,
            env=git_environment(settings if is_fetch else (*_CUT_OFF, *settings), around),
            stdin=stdin,
            timeout=NETWORK_TIME_LIMIT if is_fetch else TIME_LIMIT,
            bounds=Bounds(
                output=limit,
                stalled=lambda: find_blocking_file(git_directory.git_dir, git_directory.work_tree),
                watch=watch,
            ),
        )
    except ExecutionError as error:
        if error.hint is None and "no such program" in error.message:
            raise
        where = git_directory.work_tree or git_directory.git_dir
        raise SnapshotError(f"'git {arguments[0]}' failed in {where}", context=error.message) from error


def git(
    git_directory: GitDirectory,
    *arguments: str | Path,
    stdin: bytes = b"",
    settings: Settings = (),
    limit: int = OUTPUT_LIMIT,
) -> bytes:
    """Run git on a repository and return its standard output, at most ``limit`` bytes.

    Raises:
        GitError: git failed; its error output is the context.
        SnapshotError: see `run_git`.
    """
    done = run_git(git_directory, *arguments, stdin=stdin, settings=settings, limit=limit)
    if done.exit_code:
        raise GitError(f"'git {arguments[0]}' failed", context=done.error_text)
    return done.stdout


def run_concurrently(*tasks: Callable[[], T]) -> list[T]:
    """Run tasks in threads and return their results in the order of the tasks.

    Raises:
        BaseException: the first error that a task raised.
    """
    results: dict[int, T] = {}
    faults: list[BaseException] = []

    def do(number: int) -> None:
        try:
            results[number] = tasks[number]()
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            faults.append(error)

    threads = [Thread(target=do, args=(number,)) for number in range(1, len(tasks))]
    for thread in threads:
        thread.start()
    if tasks:
        do(0)
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [results[number] for number in range(len(tasks))]


def object_file(objects: Path, identity: str) -> Path:
    """Return the path of a loose object."""
    return objects / identity[:2] / identity[2:]
