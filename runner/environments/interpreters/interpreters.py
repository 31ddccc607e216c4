"""Finds the Python interpreters of this machine; the answers of each one are cached."""

import os
import string
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.model import Interpreter
from runner.environments.version_rules import parse_version
from runner.errors import ExecutionError
from runner.process import capture

OLDEST = (3, 6)
"""The oldest release line for which uv makes environments."""

NEWEST_LOOKED_FOR = 20
LETTERS = string.ascii_letters + "-"
PROPERTIES_SCRIPT = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(), "implementation": sys.implementation.name,
    "platform": sysconfig.get_platform(), "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "is_virtual": sys.prefix != sys.base_prefix}))
"""


class _Properties(Struct, frozen=True):
    """The properties that an interpreter printed when it was last started."""

    version: str
    implementation: str
    platform: str
    executable: str
    is_virtual: bool


class _CacheEntry(Struct, frozen=True):
    """The cached properties of an executable with its stat; None if it is not a usable Python."""

    stamp: tuple[int, int, int]
    answer: _Properties | None


def discover(cache: Path, environ: Mapping[str, str] = os.environ) -> tuple[Interpreter, ...]:
    """Return the usable interpreters without duplicates, in the order of PATH.

    ``cache`` is the file with the properties of executables that were started before; their stat is the key.
    """
    known = _load(cache)
    fresh: dict[str, _CacheEntry] = {}
    found: dict[str, Interpreter] = {}
    for path in _candidates(environ):
        real = os.path.realpath(path)
        if real in fresh or (stamp := _stamp(real)) is None:
            continue
        before = known.get(real)
        fresh[real] = before if before and before.stamp == stamp else _CacheEntry(stamp, _read_properties(path))
        properties = fresh[real].answer
        if properties and not properties.is_virtual and parse_version(properties.version)[:2] >= OLDEST:
            found[real] = Interpreter(
                path=str(path),
                version=properties.version,
                implementation=properties.implementation,
                platform=properties.platform,
            )
    if fresh != known:
        _save(cache, fresh)
    return tuple(found.values())


def origin(interpreter: Interpreter, environ: Mapping[str, str] = os.environ) -> str:
    """Return the installer of an interpreter: ``pyenv``, ``uv``, ``conda``, ``system``, or ``PATH`` if unknown."""
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
    """List the versions of interpreters, newest first."""
    versions = sorted({(item.numbers, item.name) for item in interpreters}, reverse=True)
    return ", ".join(name for _, name in versions) or "none"


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield paths that may be interpreters. Virtual environments are skipped, because their base is found itself."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    shims = os.path.join(_pyenv_root(environ), "shims")  # noqa: PTH118
    names = [f"python3.{minor}" for minor in range(NEWEST_LOOKED_FOR, OLDEST[1] - 1, -1)]
    names = ["python3", "python", *names]
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
    """Yield the interpreters in the folders of pyenv, uv and conda, the newest version first."""
    home = os.path.expanduser("~")  # noqa: PTH111
    roots = [f"{_pyenv_root(environ)}/versions", _uv_root(environ, home)]
    roots += [f"{root}/envs" for root in _conda_roots(environ, home)]
    for root in roots:
        yield from (path for name in _names(root) if (path := _python_in(f"{root}/{name}")))
    yield from (path for root in _conda_roots(environ, home) if (path := _python_in(root)))


def _uv_root(environ: Mapping[str, str], home: str) -> str:
    data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    return environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"


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
    """Return the interpreter of an installation, or None if the folder is a virtual environment or has no Python."""
    if os.path.exists(f"{prefix}/pyvenv.cfg"):  # noqa: PTH110
        return None
    names = ("bin/python3", "bin/python", "bin/pypy3")
    return next((path for name in names if os.path.isfile(path := f"{prefix}/{name}")), None)  # noqa: PTH113


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_properties(path: str) -> _Properties | None:
    """Start an interpreter to read its properties; None if it fails."""
    try:
        done = capture([path, "-I", "-S", "-c", PROPERTIES_SCRIPT], timeout=20)
    except ExecutionError:
        return None
    except OSError:
        return None
    try:
        return msgspec.json.decode(done.stdout, type=_Properties) if done.exit_code == 0 else None
    except msgspec.DecodeError:
        return None


def _load(cache: Path) -> dict[str, _CacheEntry]:
    try:
        return msgspec.json.decode(read_checksummed(cache), type=dict[str, _CacheEntry])
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        return {}


def _save(cache: Path, known: dict[str, _CacheEntry]) -> None:
    if not cache.parent.is_dir():  # reading commands do not create the home
        return
    with suppress(OSError):  # without a cache the interpreters are started again the next time
        write_checksummed(cache, msgspec.json.encode(known))
