"""Base class of the backends that build Python environments: interpreter, lock, prefix, the project's own packages."""

import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from msgspec import structs

from runner.analysis.scripts import Scripts
from runner.base.lazy import LazyModule
from runner.base.plurals import counted
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.cache.checksums import CachedPackage
from runner.environments.cache.direct_urls import clean_direct_urls
from runner.environments.cache.installed import Distribution
from runner.environments.cache.prefix import BuildPlan, Built, Prefixes, has_marker
from runner.environments.declare.indexes import index_options
from runner.environments.interpreters.choosing import Choice, MissingInterpreterError, choose, downloads_allowed
from runner.environments.interpreters.interpreters import discover
from runner.environments.model import (
    IMPORT_PATH,
    AnyRequest,
    BackendCapabilities,
    Interpreter,
    Lock,
    Prepared,
    PythonRequest,
)
from runner.environments.resolve.locking import count_packages, find_lock, format_time, note_path
from runner.environments.specs import AnySpec, CondaFileSpec, EnvironmentSpec, LocalPackage, PythonSpec
from runner.environments.version_rules import parse_rule
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentRecord, Event, EventKind, ProjectFiles, Report

if TYPE_CHECKING:
    from runner.environments.declare import source_trees
    from runner.environments.repair import fallback, repairs, requirement_errors
    from runner.environments.resolve import uv_command
else:
    repairs = LazyModule("runner.environments.repair.repairs")
    fallback = LazyModule("runner.environments.repair.fallback")
    requirement_errors = LazyModule("runner.environments.repair.requirement_errors")
    source_trees = LazyModule("runner.environments.declare.source_trees")
    uv_command = LazyModule("runner.environments.resolve.uv_command")

FORMAT = 1
HOOK = (
    "import os,sys,site;p=[e for e in os.environ.get('" + IMPORT_PATH + "','').split(os.pathsep) if e];"
    "i=next((n for n,e in enumerate(sys.path) if e.endswith(('site-packages','dist-packages'))),len(sys.path));"
    "sys.path[i:i]=p;list(map(site.addsitedir,p))\n"
)
"""A line that Python runs at startup: puts the project's own packages between the standard library and the rest.

It runs in the scope of a function, so before Python 3.12 a comprehension does not see what it imports.
"""


class PythonBackend(EnvironmentBackend):
    """A backend that installs a lock into a prefix; subclasses implement `install`."""

    name: ClassVar[str]
    capabilities: ClassVar = BackendCapabilities(builds_prefixes=True, maps_conda_files=True)

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Return the reason why this backend can't provide a spec, None if it can."""
        if not isinstance(spec, PythonSpec):
            return "docker_env needs a container"
        return spec.refusal.message if spec.refusal else None

    def repair(self, spec: AnySpec, scripts: Scripts, files: ProjectFiles) -> AnySpec:
        """Return a spec with repairs for known problems of old projects."""
        return repairs.repair_spec(spec, scripts, files)

    def plan(self, request: AnyRequest) -> EnvironmentRecord:
        """Return the record of the environment, as far as known without building or resolving."""
        wanted, as_of = request.of(PythonSpec), format_time(request.as_of)
        try:
            choice = self._choose(wanted)
        except MissingInterpreterError as missing:
            return EnvironmentRecord(manager=self.name, python=missing.rule.text, as_of=as_of)
        lock = find_lock(wanted, choice.interpreter)
        if wanted.repair and wanted.may_replace and note_path(wanted, choice.interpreter).exists():
            lock = fallback.read_repaired_lock(wanted, choice.interpreter, _others(wanted)) or lock
        interpreter = lock.interpreter if lock else choice.interpreter
        return EnvironmentRecord(
            manager=self.name,
            python=interpreter.version,
            lock_digest=lock.digest if lock else None,
            as_of=lock.as_of if lock else as_of,
            platform=interpreter.platform,
        )

    def lock(self, request: AnyRequest, report: Report) -> Lock | None:
        """Return the lock of a request; resolve it if none is stored."""
        wanted = request.of(PythonSpec)
        choice = self._choose_or_fetch(wanted, report)
        usual = EventKind.REMARK if self._is_built(wanted, choice.interpreter) else EventKind.NOTICE
        for notice in wanted.spec.notices:
            report(Event(kind=usual, message=notice))
        for notice in wanted.spec.mapping if isinstance(wanted.spec, CondaFileSpec) else ():
            report(Event(kind=EventKind.NOTICE, message=notice))
        if choice.notice:
            # With a lock, the choice within a declared range of versions is expected and not worth a notice.
            is_asked = bool(wanted.spec.python) and wanted.spec.is_locked
            kind = EventKind.NOTICE if choice.departs else EventKind.REMARK if is_asked else usual
            report(Event(kind=kind, message=choice.notice))
        lock = self._lock_for(wanted, choice.interpreter, report)
        is_other = choice.departs and choice.notice and lock.interpreter == choice.interpreter
        return structs.replace(lock, departures=(choice.notice,)) if is_other and choice.notice else lock

    def _is_built(self, request: PythonRequest, interpreter: Interpreter) -> bool:
        """Return whether a request was resolved and built before, so that its notices were shown then."""
        if request.repair and request.may_replace and note_path(request, interpreter).exists():
            return True
        found = find_lock(request, interpreter)
        return found is not None and has_marker(request.home, _identity(self.name, found))

    def _lock_for(self, request: PythonRequest, interpreter: Interpreter, report: Report) -> Lock:
        found = find_lock(request, interpreter)
        is_repaired = request.repair and request.may_replace and note_path(request, interpreter).exists()
        if found and not is_repaired:
            return found
        try:
            return fallback.lock_with_repairs(request, interpreter, _others(request), report)
        except EnvironmentSetupError as error:
            requirement_errors.explain_unresolved(error, request)
            raise

    def with_other_interpreter(self, request: AnyRequest, report: Report) -> AnyRequest | None:
        """Return the request with another interpreter for a lock that can't be built, None if there is no other."""
        wanted = request.of(PythonSpec)
        if wanted.interpreter:
            return None
        interpreter = self._choose(wanted).interpreter
        lock = find_lock(wanted, interpreter)
        return fallback.switch_interpreter(wanted, interpreter, lock, _others(wanted), report) if lock else None

    def choose_interpreter(self, request: AnyRequest, report: Report) -> Interpreter:
        """Return the interpreter of a request; uv downloads a missing one if downloads are allowed."""
        choice = self._choose_or_fetch(request.of(PythonSpec), report)
        if choice.notice:
            report(Event(kind=EventKind.NOTICE, message=choice.notice))
        return choice.interpreter

    def prepare(self, request: AnyRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the verified environment of a lock; build it if it is missing."""
        if lock is None:
            raise EnvironmentSetupError("a Python environment can't be built without a lock")
        wanted = structs.replace(request.of(PythonSpec), report=report)
        prefixes = Prefixes(wanted.home, report)
        identity = _identity(self.name, lock)
        base = prefixes.obtain(
            BuildPlan(
                identity=identity,
                manager=self.name,
                description=self._description(lock),
                lock=lock.text,
                build=partial(self._build, wanted, lock, prefixes.folder(identity) / "build.log", report),
                evict=partial(self._evict, wanted),
                sources=partial(self._sources, wanted, lock),
            )
        )
        own = self._local(wanted, lock, base, prefixes) if wanted.spec.local_packages else None
        return _prepared(self.name, wanted, lock, base, own)

    def install(self, request: PythonRequest, lock: Lock, prefix: Path, log: Path) -> None:
        """Create a prefix with exactly the packages of the lock."""
        raise NotImplementedError

    def _description(self, lock: Lock) -> str:
        return f"environment with Python {lock.interpreter.name}"

    def _sources(self, request: PythonRequest, lock: Lock) -> Iterable[CachedPackage] | None:
        """Return the cached packages to which a prefix may get hard links, None if it gets no links."""
        del request, lock
        return None

    def _build(self, request: PythonRequest, lock: Lock, log: Path, report: Report, prefix: Path) -> None:
        count = count_packages(lock)
        packages = f", {counted(count, 'package')}" if count else ""
        report(Event(kind=EventKind.STEP, message=f"Building environment: Python {lock.interpreter.name}{packages}"))
        self.install(request, lock, prefix, log)
        clean_direct_urls(prefix)
        write_import_hook(prefix)

    def _evict(self, request: PythonRequest, names: tuple[str, ...]) -> None:
        # Without --force uv may wait for minutes until no process uses its cache. The packages are damaged anyway.
        uv_for(request).run("cache", "clean", "--force", *names)

    def _choose(self, request: PythonRequest) -> Choice:
        if request.interpreter:
            return Choice(request.interpreter)
        found, lock = _others(request), request.spec.project_lock
        if lock is None:
            return choose(request.spec.python, found, request.as_of)
        fitting = [item for item in found if parse_rule(lock.pythons).admits(item.version)]
        try:
            return choose(lock.python, fitting, None)
        except MissingInterpreterError:
            if not fitting:
                raise
        other = choose(None, fitting, None).interpreter
        notice = f"{lock.path} was made with Python {lock.python}, which is not installed; {other.name} is used instead"
        return Choice(other, notice, departs=True)

    def _choose_or_fetch(self, request: PythonRequest, report: Report) -> Choice:
        try:
            return self._choose(request)
        except MissingInterpreterError as missing:
            wanted = missing.rule.text
            if not (missing.rule.line and downloads_allowed(request.environ)):
                raise
            report(Event(kind=EventKind.STEP, message=f"Python {wanted} is not installed; uv downloads it"))
            done = uv_for(request).work("python", "install", wanted, cwd=uv_command.clean_cwd(request.home))
            if done.exit_code:
                missing.context = "uv could not download it: " + done.error_text.splitlines()[0]
                raise
        return self._choose(request)

    def _local(self, request: PythonRequest, lock: Lock, base: Built, prefixes: Prefixes) -> Built:
        """Return the prefix of the project's own packages, which is used on top of the base; each tree has its own."""
        tree = request.tree
        if tree is None:
            raise EnvironmentSetupError("the project's own packages need the frozen tree of the project")
        packages = [(package.text, tree.digest(package.path)) for package in request.spec.local_packages]
        identity = _digest((FORMAT, "local", _identity(self.name, lock), packages))
        log = prefixes.folder(identity) / "build.log"
        return prefixes.obtain(
            BuildPlan(
                identity=identity,
                manager=self.name,
                description="the project's own packages",
                build=partial(_build_local, request, lock, base, log),
                evict=partial(self._evict, request),
            )
        )


def _others(request: PythonRequest) -> tuple[Interpreter, ...]:
    """Return the interpreters that can be used; none if an earlier attempt has chosen one."""
    return () if request.interpreter else discover(request.home.root / "interpreters.json", request.environ)


def write_import_hook(prefix: Path) -> None:
    """Write the `.pth` file by which the Pythons of a prefix import the project's own packages."""
    for site in prefix.glob("lib/*/site-packages"):
        (site / "proj_import_path.pth").write_text(HOOK, encoding="utf-8")


def uv_for(request: PythonRequest) -> "uv_command.Uv":
    """Return uv with the index settings of a request."""
    index = index_options(request.spec.options, request.environ)
    uv = uv_command.find_uv(request.home, index, request.environ, request.spec.requirements)
    return structs.replace(uv, report=request.report)


def cutoff_options(lock: Lock) -> Iterator[str]:
    """Yield uv's options for the cutoff date of a lock, so that build tools are of that date too."""
    if lock.as_of:
        yield from ("--exclude-newer", lock.as_of)
        for name in lock.undated:
            yield from ("--exclude-newer-package", f"{name}=false")


def _build_local(request: PythonRequest, lock: Lock, base: Built, log: Path, prefix: Path) -> None:
    if request.tree is None:
        raise EnvironmentSetupError("the project's own packages need the frozen tree of the project")
    packages = request.spec.local_packages
    uv = uv_for(request)
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="proj-") as temporary:
        copies = source_trees.copy_packages(request.tree, packages, Path(temporary))
        done = uv.work(
            *("pip", "install", "--no-deps", "--target", prefix, "--python", base.path / "bin" / "python"),
            *("--link-mode", "copy", *cutoff_options(lock), *_index_arguments(uv), *map(str, copies)),
            cwd=uv_command.clean_cwd(request.home),
        )
    if done.exit_code:
        names = ", ".join(package.path for package in packages)
        raise uv_command.command_error(f"The project's own packages ({names}) can't be built", done, log)


def _index_arguments(uv: "uv_command.Uv") -> Iterator[str]:
    for line in uv.index.lines:
        yield from line.split(" ", 1)
    yield from uv.index.arguments


def _identity(manager: str, lock: Lock) -> str:
    interpreter = lock.interpreter
    return _digest((FORMAT, manager, lock.digest, msgspec.to_builtins(interpreter), os.path.realpath(interpreter.path)))


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def _prepared(name: str, request: PythonRequest, lock: Lock, base: Built, own: Built | None) -> Prepared:
    distributions = base.distributions + (own.distributions if own else ())
    record = EnvironmentRecord(
        manager=name,
        python=lock.interpreter.version,
        digest=_digest((base.digest, own.digest)) if own else base.digest,
        lock_digest=lock.digest,
        prefix=str(base.path),
        as_of=lock.as_of,
        platform=lock.interpreter.platform,
        packages=tuple(sorted((item.name, item.version) for item in distributions)),
        departures=(*request.spec.departures, *lock.departures),
    )
    variables = {"VIRTUAL_ENV": str(base.path)}
    entries = [base.path / "bin"]
    if own:
        variables[IMPORT_PATH] = str(own.path)
        entries.insert(0, own.path / "bin")
    paths = _import_paths(request.spec.local_packages, own.distributions, request.files) if own else ()
    return Prepared(
        record=record, prefix=base.path, path_entries=tuple(entries), variables=variables, import_paths=paths
    )


def _import_paths(
    packages: tuple[LocalPackage, ...], distributions: tuple[Distribution, ...], files: ProjectFiles | None
) -> tuple[str, ...]:
    """Return the folders from which editable packages are imported; compiled ones work only when installed."""
    found: dict[str, None] = {}
    pure = [item for item in distributions if item.is_pure]
    for package in packages if files and len(pure) == len(distributions) else ():
        if not package.editable or files is None:
            continue
        top = "" if package.path == "." else package.path
        folders = [top, *(posixpath.join(top, n.rstrip("/")) for n in files.names(top) if n.endswith("/"))]
        for folder in folders:
            names = {name.rstrip("/") for name in files.names(folder)}
            if any(names.issuperset(item.top_level) and (item.top_level or folder == top) for item in pure):
                found[folder or "."] = None
    return tuple(found)
