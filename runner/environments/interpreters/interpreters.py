"""Finds the Pythons of this machine and chooses one, without starting any that it has seen before."""

import os
import string
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.declare.version_rules import Version, parse_version
from runner.errors import ExecutionError
from runner.process import capture

OLDEST = (3, 6)
"""uv makes environments for this line and newer ones."""

NEWEST_LOOKED_FOR = 20
LETTERS = string.ascii_letters + "-"
IS_WINDOWS = os.name == "nt"
QUESTION = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(), "implementation": sys.implementation.name,
    "platform": sysconfig.get_platform(), "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "is_virtual": sys.prefix != sys.base_prefix}))
"""


class Interpreter(Struct, frozen=True, kw_only=True):
    """A Python that can carry environments; ``platform`` is that of sysconfig, such as ``linux-x86_64``."""

    path: str
    version: str
    implementation: str
    platform: str

    @property
    def numbers(self) -> Version:
        """The version for comparison."""
        return parse_version(self.version)

    @property
    def line(self) -> Version:
        """The release line: major, minor."""
        return self.numbers[:2]

    @property
    def name(self) -> str:
        """The interpreter as people call it."""
        return f"{'' if self.implementation == 'cpython' else self.implementation + ' '}{self.version}"


class _Answer(Struct, frozen=True):
    """What an interpreter said of itself when it was last asked."""

    version: str
    implementation: str
    platform: str
    executable: str
    is_virtual: bool


class _Known(Struct, frozen=True):
    """An answer with the stat of the file that gave it; no answer for what is no usable Python."""

    stamp: tuple[int, int, int]
    answer: _Answer | None


def discover(cache: Path, environ: Mapping[str, str] = os.environ) -> tuple[Interpreter, ...]:
    """Return the usable interpreters, each once, those first on PATH first.

    ``cache`` is the file that keeps what they said of themselves, by their stat.
    """
    known = _load(cache)
    fresh: dict[str, _Known] = {}
    found: dict[str, Interpreter] = {}
    for path in _candidates(environ):
        real = os.path.realpath(path)
        if real in fresh or (stamp := _stamp(real)) is None:
            continue
        before = known.get(real)
        fresh[real] = before if before and before.stamp == stamp else _Known(stamp, _ask(path))
        answer = fresh[real].answer
        if answer and not answer.is_virtual and parse_version(answer.version)[:2] >= OLDEST:
            found[real] = Interpreter(
                path=str(path), version=answer.version, implementation=answer.implementation, platform=answer.platform
            )
    if fresh != known:
        _save(cache, fresh)
    return tuple(found.values())


def origin(interpreter: Interpreter, environ: Mapping[str, str] = os.environ) -> str:
    """Say who installed an interpreter: pyenv, uv, conda, the system, or nobody we know, whose folder is on PATH."""
    home = os.path.expanduser("~")  # noqa: PTH111
    real = os.path.realpath(interpreter.path)
    roots = {
        "pyenv": [_pyenv_root(environ)],
        "uv": [_uv_root(environ, home)],
        "conda": _conda_roots(environ, home),
        "system": ["/usr/bin", "/usr/lib", "/System"],
    }
    for name, folders in roots.items():
        if any(real.startswith(os.path.realpath(folder) + os.sep) for folder in folders):
            return name
    return "PATH"


def describe(interpreters: Iterable[Interpreter]) -> str:
    """Name the interpreters that are there, newest first, in a few words."""
    versions = sorted({(item.numbers, item.name) for item in interpreters}, reverse=True)
    return ", ".join(name for _, name in versions) or "none"


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield paths that may be interpreters; a virtual environment's own Python is answered for by its base."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    shims = os.path.join(_pyenv_root(environ), "shims")  # noqa: PTH118
    names = [f"python3.{minor}" for minor in range(NEWEST_LOOKED_FOR, OLDEST[1] - 1, -1)]
    names = ["python.exe"] if IS_WINDOWS else ["python3", "python", *names]
    folders = [folder for folder in environ.get("PATH", "").split(os.pathsep) if folder and folder != shims]
    for folder in [*folders, "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"]:
        if os.path.isfile(f"{folder}/../pyvenv.cfg"):  # noqa: PTH113
            continue
        yield from filter(os.path.isfile, (f"{folder}/{name}" for name in names))
    yield from _installed(environ)
    yield base


def _pyenv_root(environ: Mapping[str, str]) -> str:
    return environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")  # noqa: PTH111


def _installed(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the interpreters in the folders of pyenv, uv and conda, newest names first."""
    home = os.path.expanduser("~")  # noqa: PTH111
    roots = [f"{_pyenv_root(environ)}/versions", _uv_root(environ, home)]
    roots += [f"{root}/envs" for root in _conda_roots(environ, home)]
    for root in roots:
        yield from (path for name in _names(root) if (path := _python_in(f"{root}/{name}")))
    yield from (path for root in _conda_roots(environ, home) if (path := _python_in(root)))
    yield from (f"{environ['LOCALAPPDATA']}/Programs/Python/{name}/python.exe" for name in _windows_installs(environ))


def _uv_root(environ: Mapping[str, str], home: str) -> str:
    data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    data = environ.get("APPDATA", data) if IS_WINDOWS else data
    return environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"


def _windows_installs(environ: Mapping[str, str]) -> tuple[str, ...]:
    folder = environ.get("LOCALAPPDATA") if IS_WINDOWS else None
    return _names(f"{folder}/Programs/Python") if folder else ()


def _conda_roots(environ: Mapping[str, str], home: str) -> list[str]:
    executable = environ.get("CONDA_EXE")
    named = [os.path.dirname(os.path.dirname(executable))] if executable else []  # noqa: PTH120
    named += [environ["MAMBA_ROOT_PREFIX"]] if environ.get("MAMBA_ROOT_PREFIX") else []
    usual = ("miniforge3", "miniconda3", "anaconda3", "mambaforge", "micromamba", ".local/share/mamba")
    return [*named, *(f"{home}/{name}" for name in usual), "/opt/conda"]


def _names(folder: str) -> tuple[str, ...]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return ()
    return tuple(sorted(names, key=lambda name: (parse_version(name.lstrip(LETTERS)), name), reverse=True))


def _python_in(prefix: str) -> str | None:
    """Return the interpreter of an installation, None for what is a virtual environment or no installation."""
    if os.path.exists(f"{prefix}/pyvenv.cfg"):  # noqa: PTH110
        return None
    places = ("python.exe",) if IS_WINDOWS else ("bin/python3", "bin/python", "bin/pypy3")
    return next((path for place in places if os.path.isfile(path := f"{prefix}/{place}")), None)  # noqa: PTH113


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _ask(path: str) -> _Answer | None:
    """Ask an interpreter what it is; None when it doesn't answer."""
    try:
        done = capture([path, "-I", "-S", "-c", QUESTION], timeout=20)
    except ExecutionError:
        return None
    except OSError:
        return None
    try:
        return msgspec.json.decode(done.stdout, type=_Answer) if done.exit_code == 0 else None
    except msgspec.DecodeError:
        return None


def _load(cache: Path) -> dict[str, _Known]:
    try:
        return msgspec.json.decode(read_checksummed(cache), type=dict[str, _Known])
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        return {}


def _save(cache: Path, known: dict[str, _Known]) -> None:
    if not cache.parent.is_dir():  # the home is made by a command that needs it
        return
    with suppress(OSError):  # asked again where it can't be kept
        write_checksummed(cache, msgspec.json.encode(known))
