"""The `conda` backend: installs conda files as they are, conda packages and their pip part."""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import ClassVar

from msgspec import structs

from runner.analysis.scripts import Scripts
from runner.base.files import can_clone
from runner.environments.backends.conda.activation import activation_variables, store_activation
from runner.environments.backends.conda.command import VARIABLE
from runner.environments.backends.conda.rattler import EXTRA, is_installed
from runner.environments.backends.conda.tools import choose_tool
from runner.environments.backends.python_backend import PythonBackend, uv_for, write_import_hook
from runner.environments.backends.uv import uv_archives
from runner.environments.cache.checksums import CachedPackage
from runner.environments.declare.conda.files import is_conda_lock, this_platform
from runner.environments.declare.conda.spec import CondaSpec
from runner.environments.model import (
    AnyRequest,
    BackendCapabilities,
    CondaRequest,
    Interpreter,
    Lock,
    Prepared,
    PythonRequest,
)
from runner.environments.repair import conda_repairs
from runner.environments.resolve.conda.lockfile import CondaLock
from runner.environments.resolve.conda.pip import PipPart
from runner.environments.resolve.conda.solve import (
    FoundLock,
    conda_spec,
    find_conda_lock,
    read_cached_lock,
    report_disagreements,
    resolve_conda,
)
from runner.environments.resolve.locking import format_time
from runner.environments.resolve.uv_command import clean_cwd
from runner.environments.specs import AnySpec, CondaFileSpec, EnvironmentSpec, collect, specify
from runner.model import EnvironmentKind, EnvironmentRecord, Event, EventKind, ProjectFiles, Report
from runner.urls import without_channel_credentials


class CondaBackend(PythonBackend):
    """Environments of conda packages, built without a conda executable."""

    name: ClassVar[str] = "conda"
    capabilities: ClassVar = BackendCapabilities(builds_prefixes=True)

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Return the reason why this backend can't provide a spec, None if it can."""
        if not isinstance(spec, CondaFileSpec):
            return "'conda' needs a conda file, and the project has none"
        return None if os.environ.get(VARIABLE) or is_installed() else EXTRA

    def repair(self, spec: AnySpec, scripts: Scripts, files: ProjectFiles) -> AnySpec:
        """Return a spec with repairs for known problems of old projects; packages of the file are not changed."""
        return conda_repairs.repair_conda(spec, scripts, files)

    def with_other_interpreter(self, request: AnyRequest, report: Report) -> AnyRequest | None:
        """Return None: the solver chooses the interpreter together with the packages."""
        del request, report
        return None

    def plan(self, request: AnyRequest) -> EnvironmentRecord:
        """Return the record of the environment, as far as known without building or resolving."""
        wanted, platform = request.of(CondaFileSpec), this_platform()
        found = find_conda_lock(wanted, platform, choose_tool)
        spec = _spec(wanted, platform)
        return EnvironmentRecord(
            manager=self.name,
            python=found.lock.python if found else spec.python,
            lock_digest=found.lock.digest if found else None,
            as_of=found.lock.as_of if found else format_time(wanted.as_of),
            platform=platform,
            channels=_channels(spec, found.lock if found else None),
        )

    def lock(self, request: AnyRequest, report: Report) -> Lock | None:
        """Return the lock of a request; resolve it if none is stored."""
        wanted = request.of(CondaFileSpec)
        for notice in wanted.spec.notices:
            report(Event(kind=EventKind.NOTICE, message=notice))
        platform = this_platform()
        found = find_conda_lock(wanted, platform, choose_tool)
        if found is None:
            return _as_lock(resolve_conda(wanted, platform, choose_tool, report))
        return structs.replace(_as_lock(found), departures=report_disagreements(wanted, found, report))

    def prepare(self, request: AnyRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the verified environment of a lock; build it if it is missing."""
        wanted, platform = request.of(CondaFileSpec), this_platform()
        spec = _spec(wanted, platform)
        # The project's own packages of the pip part are installed on top of the prefix.
        local = structs.replace(
            wanted.spec, local_packages=spec.pip.local_packages, options=spec.pip.options, departures=()
        )
        made = super().prepare(structs.replace(wanted, spec=local), lock, report)
        conda = _read(wanted, lock) if lock else None
        record = structs.replace(made.record, python=conda.python if conda else None, channels=_channels(spec, conda))
        variables = {name: value for name, value in made.variables.items() if name != "VIRTUAL_ENV"}
        own = activation_variables(made.prefix) if made.prefix else {}
        return structs.replace(made, record=record, variables={**variables, **spec.variables, **own})

    def _description(self, lock: Lock) -> str:
        return f"conda environment{f' with Python {lock.interpreter.version}' if lock.interpreter.version else ''}"

    def _sources(self, request: PythonRequest, lock: Lock) -> Iterable[CachedPackage] | None:
        conda = _read(request.of(CondaFileSpec), lock)
        unpacked = request.home.root / "cache" / "conda" / "packages"
        names = {f"{package.name}-{package.version}-{package.build}" for package in conda.packages}
        folders = list(unpacked.iterdir()) if unpacked.is_dir() else []
        cache = Path(uv_for(request).variables["UV_CACHE_DIR"])
        pip = uv_archives(cache, "".join(f"{package.requirement}\n" for package in conda.pip))
        return chain((CachedPackage(folder.name, folder) for folder in folders if folder.name in names), pip)

    def _build(self, request: PythonRequest, lock: Lock, log: Path, report: Report, prefix: Path) -> None:
        wanted = request.of(CondaFileSpec)
        conda, spec = _read(wanted, lock), _spec(wanted, lock.interpreter.platform)
        tool = choose_tool(request, conda.platform, spec.channels or conda.channels)
        pip = f", {len(conda.pip)} of the Python index" if conda.pip else ""
        missing = tool.missing(conda.packages)
        fetching = f"; fetching {missing}" if missing else ""
        notice = f"Building {self._description(lock)}: {len(conda.packages)} conda packages{pip}{fetching}"
        report(Event(kind=EventKind.STEP, message=notice))
        (log.parent / "lock.txt").write_text(lock.text, encoding="utf-8")
        installed = tool.install(conda.packages, prefix, log)
        if installed.scripts:
            notice = f"Scripts that {', '.join(installed.scripts)} run after their installation are not executed"
            report(Event(kind=EventKind.NOTICE, message=notice))
        if conda.pip:
            mode = "clone" if can_clone(clean_cwd(request.home)) else "hardlink"
            PipPart(request, spec.pip, conda.platform, log).install(conda.pip, prefix, lock.as_of, mode)
        write_import_hook(prefix)
        store_activation(prefix)

    def _evict(self, request: PythonRequest, names: tuple[str, ...]) -> None:
        others = choose_tool(request, this_platform(), ()).evict(names)
        # uv waits for all processes that use its cache, so it runs only if it may have a package.
        if others:
            super()._evict(request, others)


def _spec(request: CondaRequest, platform: str) -> CondaSpec:
    """Return the declared packages; for a file that is itself a lock only the lock counts."""
    file = request.spec.conda
    if not is_conda_lock(file.text):
        return conda_spec(request, platform)
    nothing = specify(EnvironmentKind.CONDA_ENV, file.path, collect())
    return CondaSpec(file=file.path, channels=(), specs=(), pip=nothing)


def _read(request: CondaRequest, lock: Lock) -> CondaLock:
    return read_cached_lock(request, lock.text, "the lock", lock.interpreter.platform)


def _channels(spec: CondaSpec, lock: CondaLock | None) -> tuple[str, ...]:
    return lock.channels if lock else tuple(without_channel_credentials(channel) for channel in spec.channels)


def _as_lock(found: FoundLock) -> Lock:
    lock = found.lock
    return Lock(
        text=found.text,
        digest=lock.digest,
        # The path of the interpreter is only known after the installation.
        interpreter=Interpreter(
            path=os.sep, version=lock.python or "", implementation="cpython", platform=lock.platform
        ),
        as_of=lock.as_of,
        undated=lock.undated,
        path=found.path,
        names=tuple(conda_repairs.python_name(package.name) for package in lock.packages)
        + tuple(item.name for item in lock.pip),
        file_name="conda-lock.yml",
    )
