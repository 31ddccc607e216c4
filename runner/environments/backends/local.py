"""The `local` backend: uses the Python on PATH and records it."""

import hashlib
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct

from runner.base.package_names import canonical_name
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.model import AnyRequest, BackendCapabilities, Lock, Prepared
from runner.environments.specs import EnvironmentSpec
from runner.model import EnvironmentRecord, Event, EventKind, Report
from runner.process import capture

DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)(?:-py[\d.]+)?\.(?:dist-info|egg-info)")
QUERY = """
import json, platform, sys, sysconfig
print(json.dumps({"version": platform.python_version(), "platform": sysconfig.get_platform(), "prefix": sys.prefix,
"path": [p for p in sys.path if p], "is_virtual": sys.prefix != sys.base_prefix}))
"""


class _Python(Struct, frozen=True):
    version: str
    platform: str
    prefix: str
    path: tuple[str, ...]
    is_virtual: bool


class LocalBackend(EnvironmentBackend):
    """Uses the environment that is active; builds nothing."""

    name: ClassVar[str] = "local"
    capabilities: ClassVar = BackendCapabilities()

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Return None: every spec is accepted, as nothing is built for it."""
        del spec
        return None

    def plan(self, request: AnyRequest) -> EnvironmentRecord:
        """Return the record of the Python on PATH."""
        return _record(request)[0]

    def lock(self, request: AnyRequest, report: Report) -> Lock | None:
        """Return None: nothing is resolved."""
        del request, report
        return None

    def prepare(self, request: AnyRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the active environment and the packages that are installed in it."""
        del lock
        record, virtual = _record(request)
        if record.python is None:
            report(Event(kind=EventKind.NOTICE, message="No 'python' was found on PATH, so none is recorded"))
        elif not request.spec.is_empty:
            file = request.spec.file or "the project"
            report(
                Event(
                    kind=EventKind.NOTICE,
                    message=f"The packages of {file} are not installed: the 'local' environment is used as it is",
                )
            )
        variables = {"VIRTUAL_ENV": record.prefix} if virtual and record.prefix else {}
        return Prepared(record=record, variables=variables)


def _record(request: AnyRequest) -> tuple[EnvironmentRecord, bool]:
    """Return the record of the Python on PATH, and whether it belongs to a virtual environment."""
    search = request.environ.get("PATH")
    found = shutil.which("python", path=search) or shutil.which("python3", path=search)
    python = _query(request, found) if found else None
    if python is None:
        return EnvironmentRecord(manager="local"), False
    return _record_of(python), python.is_virtual


def record_of_process() -> EnvironmentRecord:
    """Return the record of the Python that runs this process, with the packages on its import path."""
    import sysconfig  # a run does not need it

    return _record_of(
        _Python(
            version=platform.python_version(),
            platform=sysconfig.get_platform(),
            prefix=sys.prefix,
            path=tuple(path for path in sys.path if path),
            is_virtual=sys.prefix != sys.base_prefix,
        )
    )


def _record_of(python: _Python) -> EnvironmentRecord:
    # Python imports what comes first on its path, so of two versions of a package the first counts.
    first = {canonical_name(name): (name, version) for name, version in reversed(_distributions(python.path))}
    packages = tuple(sorted(first.values()))
    return EnvironmentRecord(
        manager="local",
        python=python.version,
        digest=hashlib.sha256(msgspec.json.encode((python.version, python.platform, packages))).hexdigest(),
        prefix=python.prefix,
        platform=python.platform,
        packages=packages,
    )


def _query(request: AnyRequest, python: str) -> _Python | None:
    """Return version, platform and path of a Python; the answer is cached until its file or configuration changes."""
    is_shim = f"{os.sep}shims{os.sep}" in python
    key = None if is_shim else _stamp(python)
    cache = request.home.root / "cache" / "local-python.json"
    known = _load(cache)
    if key and key in known:
        return known[key]
    variables = {name: value for name, value in request.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = capture([python, "-c", QUERY], env=variables, cwd=Path(os.sep), timeout=30)
    try:
        found = msgspec.json.decode(done.stdout, type=_Python)
    except msgspec.DecodeError:
        return None
    if key:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode({**known, key: found}))
        temporary.replace(cache)
    return found


def _stamp(python: str) -> str:
    """Return a digest that changes with an interpreter, its environment or its path files."""
    prefix = Path(python).parent.parent
    paths = [Path(python), prefix / "pyvenv.cfg", *prefix.glob("lib/python3*/site-packages")]
    stamps = [(str(path), path.stat().st_mtime_ns) for path in paths if path.exists()]
    return hashlib.sha256(msgspec.json.encode(stamps)).hexdigest()


def _load(cache: Path) -> dict[str, _Python]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Python])
    except (OSError, msgspec.DecodeError):
        return {}


def _distributions(path: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for folder in path:
        names = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
        found += [(m["name"], m["version"]) for name in names if (m := DIST_INFO.fullmatch(name))]
    return found
