"""Git as a set of exact commands: no hooks, no prompts, no locks, nothing of the caller's surroundings."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TypeVar

from msgspec import Struct

from runner.errors import ExecutionError, GitError, SnapshotError
from runner.process import Completed, capture
from runner.source.stalling import find_pipe

T = TypeVar("T")

_OURS = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LANGUAGE": "C",
}
"""Nothing is fetched, not even what a partial clone lacks; mirrors allow the one protocol that they use. ``LANGUAGE``
keeps messages in English, since some are read here; the locale stays as it is for filters of the user's."""

_KEPT = (
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_"),
    *("GIT_CONFIG_VALUE_", "GIT_SSH", "GIT_SSL", "GIT_PROXY", "GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_HTTP", "GIT_CURL"),
)
"""Who the user is and how the network is reached. The rest of ``GIT_*`` says where to work, and proj knows that."""

Settings = Sequence[tuple[str, str]]
NOTHING: Mapping[str, str] = {}

_CONFIG = (
    *(("core.fsmonitor", "false"), ("core.hooksPath", os.devnull), ("safe.directory", "*"), ("core.pager", "cat")),
    *(("diff.external", ""), ("core.alternateRefsCommand", "false"), ("log.showSignature", "false")),
    *(("maintenance.auto", "false"), ("gc.auto", "0")),
)
"""No program of a repository's starts. Every call names the repository it means, so that ownership asks for no more."""

_CUT_OFF = (
    *(("core.sshCommand", "false"), ("core.gitProxy", "false"), ("core.askPass", "false"), ("credential.helper", "")),
    ("protocol.allow", "never"),
)
"""What only a fetch needs, and a fetch works in a mirror of ours, never in a repository of the user's."""

TIME_LIMIT = 3600.0
"""Seconds after which git is stopped: reading 100,000 files from a slow disk takes minutes, not hours."""
NETWORK_TIME_LIMIT = 6 * 3600.0
"""The same for a fetch, which is given up earlier when nothing arrives any more."""


class GitDirectory(Struct, frozen=True, kw_only=True):
    """Where a command of git works.

    ``alternates`` lend their objects; nothing is written to them. ``objects`` is the folder that new objects go to,
    where that is not the repository's own.
    """

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None
    alternates: tuple[Path, ...] = ()
    objects: Path | None = None

    def variables(self) -> dict[str, str]:
        """Return the variables that lead git here, and nowhere else."""
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
    """Quote a path of GIT_ALTERNATE_OBJECT_DIRECTORIES where git's manual asks for it: a separator or a quote in it."""
    text = str(path)
    if os.pathsep not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def git_environment(settings: Settings = (), variables: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the environment for git: the caller's without what would lead git elsewhere, and our settings.

    Settings travel in ``GIT_CONFIG_*``, which other users can't read, unlike the words of a command.
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
    place: GitDirectory,
    *words: str | Path,
    stdin: bytes = b"",
    settings: Settings = (),
    variables: Mapping[str, str] = NOTHING,
) -> Completed:
    """Run git in a place and return what it printed; the exit code is the caller's to judge.

    Raises:
        SnapshotError: git takes too long, or waits for what never comes.
    """
    around = {**place.variables(), **variables}
    is_fetch = "GIT_ALLOW_PROTOCOL" in variables
    try:
        return capture(
            ["git", *words],
            cwd=place.work_tree,
            env=git_environment(settings if is_fetch else (*_CUT_OFF, *settings), around),
            stdin=stdin,
            timeout=NETWORK_TIME_LIMIT if is_fetch else TIME_LIMIT,
            stalled=lambda: find_pipe(place.git_dir, place.work_tree),
        )
    except ExecutionError as error:
        if error.hint is None and "no such program" in error.message:
            raise
        where = place.work_tree or place.git_dir
        raise SnapshotError(f"git could not do its part in {where}: git {words[0]}", context=error.message) from error


def git(place: GitDirectory, *words: str | Path, stdin: bytes = b"", settings: Settings = ()) -> bytes:
    """Run git in a place and return its output.

    Raises:
        GitError: git failed; its complaint is the context.
    """
    done = run_git(place, *words, stdin=stdin, settings=settings)
    if done.exit_code:
        raise GitError(f"git could not do its part: git {words[0]}", context=done.error_text)
    return done.stdout


def together(*tasks: Callable[[], T]) -> list[T]:
    """Do tasks that wait for child processes at the same time; their results are in the order of the tasks.

    Raises:
        BaseException: the first error that a task raised.
    """
    results: dict[int, T] = {}
    faults: list[BaseException] = []

    def do(number: int) -> None:
        try:
            results[number] = tasks[number]()
        except BaseException as error:  # noqa: BLE001  # handed on to the caller's thread
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
    """Return where git keeps a loose object."""
    return objects / identity[:2] / identity[2:]
