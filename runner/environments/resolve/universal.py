"""Makes the lock for a project: one file for every platform and each Python that the spec allows."""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from runner.environments.declare.conda.files import this_platform
from runner.environments.declare.indexes import index_options
from runner.environments.declare.project_lock import LockHeader, has_selectors, lines_digest, spec_lines, write_header
from runner.environments.model import Interpreter, PythonRequest
from runner.environments.resolve.locking import Resolution
from runner.environments.resolve.metadata_overrides import override_tables
from runner.environments.resolve.uv_command import clean_cwd, command_error, find_uv, requirements_file
from runner.environments.version_rules import Clause, Rule, bounds, parse_rule, write_version
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import Event, EventKind, Report
from runner.urls import without_credentials

LINUX, MAC, WINDOWS = "sys_platform == 'linux'", "sys_platform == 'darwin'", "sys_platform == 'win32'"
PLATFORMS = {
    "linux": LINUX,
    "linux-64": f"{LINUX} and platform_machine == 'x86_64'",
    "linux-aarch64": f"{LINUX} and platform_machine == 'aarch64'",
    "osx": MAC,
    "osx-64": f"{MAC} and platform_machine == 'x86_64'",
    "osx-arm64": f"{MAC} and platform_machine == 'arm64'",
    "win": WINDOWS,
    "win-64": f"{WINDOWS} and platform_machine == 'AMD64'",
}
"""The platforms that a lock can be limited to: conda's name and the marker of PEP 508."""

SYSTEMS = {"linux": "Linux", "osx": "macOS", "win": "Windows"}
"""The platforms that a lock is for if not all of them have a solution, with their names for people."""


class LockOrder(Struct, frozen=True, kw_only=True):
    """The user's options for a lock.

    ``previous`` is the present lock: its versions are preferred where they still fit, except those in ``upgrade``.
    With ``has_seeds`` the packages that `venv` installs are locked too.
    """

    previous: str | None = None
    upgrade: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    command: str = "proj lock"
    has_seeds: bool = True


def make_lock(request: PythonRequest, order: LockOrder, interpreter: Interpreter, report: Report) -> str:
    """Return the lock of a spec, with its header.

    Raises:
        UsageError: a platform name is not known.
        EnvironmentSetupError: no set of packages satisfies the spec, or the index can't be reached.
    """
    platforms = order.platforms
    if has_selectors(request.spec):
        platforms = (this_platform(),)
        message = f"{request.spec.file} has platform selectors; the lock is for {platforms[0]} only"
        report(Event(kind=EventKind.NOTICE, message=message))
    for name in platforms:
        if name not in PLATFORMS:
            raise UsageError(f"There is no platform '{name}'", hint=f"The platforms are {', '.join(PLATFORMS)}.")
    rule = _rule(request.spec.python)
    found = _resolve(request, structs.replace(order, platforms=platforms), interpreter, report)
    asked = spec_lines(request.spec, request.files)
    header = LockHeader(
        spec=posixpath.basename(request.spec.file or ""),
        digest=lines_digest(asked),
        command=order.command,
        as_of=found.as_of or "now",
        python=",".join(clause.text for clause in found.clauses),
        interpreter=write_version(rule.line or interpreter.line),
        platforms=" ".join(found.platforms),
        undated=" ".join(found.undated),
        asked=asked,
    )
    return write_header(header) + found.text


def _resolve(request: PythonRequest, order: LockOrder, interpreter: Interpreter, report: Report) -> "_Solution":
    """Resolve for every Python that the spec allows, else for fewer Pythons, else for fewer platforms.

    Raises:
        EnvironmentSetupError: there is no solution for this machine, or the index can't be reached.
    """
    uv = find_uv(request.home, index_options(request.spec.options, request.environ), request.environ)
    log = request.home.locks / "universal.log"
    line = Clause(">=", interpreter.line)
    full = bounds(_rule(request.spec.python), interpreter.line)
    narrow = (line, *(clause for clause in full if clause.operator != ">=" or clause.version > interpreter.line))

    def solve(clauses: tuple[Clause, ...], platforms: tuple[str, ...]) -> _Solution | EnvironmentSetupError:
        resolution = UniversalResolution(request, uv, interpreter, log)
        resolution.aim(structs.replace(order, platforms=platforms), clauses)
        try:
            text, as_of, undated = resolution.compile(report)
        except EnvironmentSetupError as error:
            return error
        return _Solution(text, clauses, as_of, undated, platforms)

    found = solve(full, order.platforms)
    if isinstance(found, EnvironmentSetupError) and narrow != full:
        found = solve(narrow, order.platforms)
    if isinstance(found, EnvironmentSetupError) and not order.platforms:
        found = _for_fewer_platforms(solve, tuple(dict.fromkeys((full, narrow))), found)
        if isinstance(found, _Solution):
            _report_platforms(found.platforms, report)
    if isinstance(found, EnvironmentSetupError):
        raise found
    if found.clauses != full:
        name, rule = write_version(interpreter.line), request.spec.python
        message = f"No set of packages works with every Python of '{rule}': locked for {name} and later"
        report(Event(kind=EventKind.NOTICE, message=message))
    return found


def _for_fewer_platforms(
    solve: "Callable[[tuple[Clause, ...], tuple[str, ...]], _Solution | EnvironmentSetupError]",
    ranges: Sequence[tuple[Clause, ...]],
    error: EnvironmentSetupError,
) -> "_Solution | EnvironmentSetupError":
    """Return a solution for the platforms that have one, else the error of this machine's platform."""
    here = this_platform().partition("-")[0]
    for clauses in ranges:
        alone = solve(clauses, (here,))
        if isinstance(alone, _Solution):
            able = tuple(name for name in SYSTEMS if name == here or isinstance(solve(clauses, (name,)), _Solution))
            found = solve(clauses, able)
            return found if isinstance(found, _Solution) else alone
        error = alone
    return error


def _report_platforms(platforms: tuple[str, ...], report: Report) -> None:
    absent = " and ".join(SYSTEMS[name] for name in SYSTEMS if name not in platforms)
    message = f"No set of packages works on {absent}: locked for {' and '.join(SYSTEMS[name] for name in platforms)}"
    report(Event(kind=EventKind.WARNING, message=message, hint="A run on another platform refuses this lock."))


class _Solution(NamedTuple):
    """A resolved lock with the range of Pythons and the platforms that it is for."""

    text: str
    clauses: tuple[Clause, ...]
    as_of: str | None
    undated: tuple[str, ...]
    platforms: tuple[str, ...]


class UniversalResolution(Resolution):
    """A resolution for a range of Pythons and for all or the given platforms."""

    def aim(self, order: LockOrder, clauses: tuple[Clause, ...]) -> None:
        """Set the options of the lock and the range of Pythons."""
        self._order, self._clauses = order, clauses
        self.previous = order.previous

    def target(self, temporary: Path) -> tuple[list[str | Path], Path]:
        """Return uv's options for the range, and a folder with a pyproject.toml of it: uv reads markers only there."""
        folder = temporary / "target"
        folder.mkdir(exist_ok=True)
        lowest = max(clause.version for clause in self._clauses if clause.operator == ">=")
        text = f'[project]\nname = "proj-lock"\nversion = "0"\nrequires-python = ">={write_version(lowest)}"\n\n'
        text += f"[tool.uv]\nenvironments = {list(self._markers())}\n\n{override_tables('tool.uv.')}"
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        options: list[str | Path] = ["--universal", "--python", self._interpreter.path]
        options += ["--python-version", write_version(lowest)]
        for name in self._order.upgrade:
            options += ["--upgrade-package", name]
        return options, folder

    def seeds(self) -> tuple[str, ...]:
        """Return the packages that `venv` installs, with markers for the Pythons where it does."""
        return ("pip", "setuptools ; python_version < '3.12'") if self._order.has_seeds else ()

    def _markers(self) -> Iterator[str]:
        """Yield the markers of the targets; uv requires them to be disjoint."""
        python = " and ".join(_marker(clause) for clause in self._clauses)
        platforms = [PLATFORMS[name] for name in self._order.platforms]
        yield from (f"{python} and {marker}" for marker in platforms) if platforms else (python,)


def _marker(clause: Clause) -> str:
    operator = re.match(r"[<>=!~]+", clause.text)
    return f"python_full_version {operator[0]} '{clause.text[operator.end() :]}'" if operator else ""


def _rule(text: str | None) -> Rule:
    try:
        return parse_rule(text)
    except EnvironmentSetupError:
        return Rule("")  # a path on one machine, which `choose` reports


def export_standard(request: PythonRequest, lock: str, header: LockHeader) -> str:
    """Return a lock as a ``pylock.toml`` with the header in the table ``[tool.proj]``."""
    lowest = re.findall(r">=([\d.]+)", header.python)[-1]
    fields = [f"{name} = {_toml(value)}" for name, value in msgspec.to_builtins(header).items() if value]
    table = "".join(f"{_quoted(field)}\n" for field in fields)
    return f"{as_standard(request, lock, lowest)}\n\n[tool.proj]\n{table}"


def as_standard(request: PythonRequest, lock: str, python: str) -> str:
    """Return a lock as a ``pylock.toml``: the same versions, with the URLs of their files and no credentials.

    ``python`` is the lowest version of Python that it is for. https://packaging.python.org/en/latest/specifications/pylock-toml/

    Raises:
        EnvironmentSetupError: the index can't be reached, or no longer has the files.
    """
    uv = find_uv(request.home, index_options(request.spec.options, request.environ), request.environ)
    with requirements_file([*uv.index.lines, lock]) as file:
        done = uv.run(
            *("pip", "compile", file, "--universal", "--no-deps", "--format", "pylock.toml", "--no-header"),
            *("--python-version", python, "--no-python-downloads", "--no-annotate", *uv.index.arguments),
            cwd=clean_cwd(request.home),
        )
    if done.exit_code:
        raise command_error("The lock can't be written as a pylock.toml", done, request.home.locks / "universal.log")
    return without_credentials(done.text)


def _toml(value: str | list[str]) -> str:
    return msgspec.json.encode(value).decode()  # JSON and TOML write strings and lists of strings in the same way


def _quoted(field: str) -> str:
    name, _, value = field.partition(" = ")
    return f'"{name}" = {value}' if " " in name else field
