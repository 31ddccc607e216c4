"""Finds or makes the lock of a conda environment: the project's own, a stored one, or a new one."""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.package_names import canonical_name
from runner.base.plurals import counted
from runner.environments.cache.lock_files import read_valid_lock, report_damage, write_lock_file
from runner.environments.declare.conda.files import is_conda_lock
from runner.environments.declare.conda.mapping import SPEC, version_rule
from runner.environments.declare.conda.spec import CondaSpec, read_conda_spec
from runner.environments.model import CondaRequest
from runner.environments.resolve.conda.lock_process import LockFiles, require_conda_lock
from runner.environments.resolve.conda.lockfile import CondaLock, check_package, read_conda_lock
from runner.environments.resolve.conda.pip import PipPart
from runner.environments.resolve.conda.protocol import ToolChoice
from runner.environments.resolve.locking import LOCK_CHANGED, LOCK_CHANGED_HINT, format_time
from runner.environments.specs import CondaFile
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, ProjectFiles, Report
from runner.urls import without_channel_credentials

FORMAT = 2
BESIDE = ("conda-lock.yml", "conda-{platform}.lock")
"""Names of conda-lock's locks beside an environment file, in order of preference."""


class FoundLock(Struct, frozen=True, kw_only=True):
    """A lock with its text; ``path`` is its path in proj's home, ``file`` its path in the project."""

    lock: CondaLock
    text: str
    path: Path | None = None
    file: str | None = None


def conda_spec(request: CondaRequest, platform: str) -> CondaSpec:
    """Return the content of a request's conda file for a platform, with the packages that repairs added.

    Raises:
        EnvironmentSetupError: the file can't be read; the message lists all faults.
    """
    spec = read_conda_spec(request.spec.conda, request.files, platform)
    lines = tuple(dict.fromkeys((*spec.pip.requirements, *request.spec.added)))
    return structs.replace(spec, pip=structs.replace(spec.pip, requirements=lines))


def find_conda_lock(request: CondaRequest, platform: str, choose: ToolChoice) -> FoundLock | None:
    """Return the lock that needs no resolution: that of an earlier run, the project's own or a stored one.

    Raises:
        EnvironmentSetupError: the lock of the earlier run was changed since.
    """
    declared, recorded = request.spec.conda, request.spec.recorded_lock
    if recorded:
        lock = read_cached_lock(request, recorded.text, recorded.path, platform)
        if recorded.digest is not None and lock.digest != recorded.digest:
            raise EnvironmentSetupError(LOCK_CHANGED, context=recorded.path, hint=LOCK_CHANGED_HINT)
        return FoundLock(lock=lock, text=recorded.text)
    own = declared if is_conda_lock(declared.text) else lock_beside(request.files, declared, platform)
    if own:
        return FoundLock(lock=read_cached_lock(request, own.text, own.path, platform), text=own.text, file=own.path)
    if request.refresh and request.as_of is None:
        return None
    path = _stored_path(request, platform, choose)
    text = read_valid_lock(path)
    if text is None:
        return None
    return FoundLock(lock=read_cached_lock(request, text, str(path), platform), text=text, path=path)


def disagreements(request: CondaRequest, found: FoundLock) -> tuple[str, ...]:
    """Return the differences between a lock in the project and its environment file."""
    declared = request.spec.conda
    if found.file is None or found.file == declared.path:
        return ()
    spec = read_conda_spec(declared, request.files, found.lock.platform)
    if not found.lock.is_ours:
        return tuple(_differences(spec, found.lock))
    same = found.lock.content == spec.digest(found.lock.platform, request.files)
    return () if same else ("it was made from another version of that file",)


def report_disagreements(request: CondaRequest, found: FoundLock, report: Report) -> tuple[str, ...]:
    """Report and return a warning if a lock in the project differs from its environment file."""
    declared, differences = request.spec.conda, disagreements(request, found)
    if not differences:
        return ()
    message = f"{found.file} does not agree with {declared.path}: {', '.join(differences[:6])}; the lock is used"
    report(Event(kind=EventKind.WARNING, message=message, hint="Update it with 'proj lock --format conda-lock'."))
    return (message,)


def resolve_conda(request: CondaRequest, platform: str, choose: ToolChoice, report: Report) -> FoundLock:
    """Resolve a conda file for a platform and store the lock.

    Raises:
        EnvironmentSetupError: no set of packages satisfies the file, or a channel or the index can't be reached.
    """
    path, declared = _stored_path(request, platform, choose), request.spec.conda
    report_damage(path, report)
    require_conda_lock("The environment can't be locked")
    resolution = CondaResolution(request=request, choose=choose, log=path.with_suffix(".log"), report=report)
    solved = resolution.solve(platform, is_portable=False)
    written = LockFiles(environ=request.environ).write([solved], [declared.path], with_addresses=False)
    (lock,) = written.locks
    kept = write_lock_file(path, written.text, len(lock.packages) + len(lock.pip))
    _cache_lock(request, kept, lock)
    return FoundLock(lock=lock, text=kept, path=path)


def lock_path_beside(request: CondaRequest) -> str:
    """Return the path of the lock of a conda file in the project."""
    return posixpath.join(posixpath.dirname(request.spec.conda.path), BESIDE[0])


class CondaResolution(Struct, frozen=True, kw_only=True):
    """One resolution of a conda file; ``log`` gets the output of a tool that fails."""

    request: CondaRequest
    choose: ToolChoice
    log: Path
    report: Report

    def solve_for_platforms(self, platforms: Sequence[str]) -> str:
        """Return the lock for several platforms to be written beside a conda file.

        It is solved for any machine of a platform, and has the URLs of the files on the Python index.

        Raises:
            EnvironmentSetupError: no set of packages satisfies the file, or a channel or the index can't be reached.
        """
        require_conda_lock("The environment can't be locked")
        locks = [self.solve(platform, is_portable=True) for platform in platforms]
        sources = [posixpath.basename(self.request.spec.conda.path)]
        written = LockFiles(environ=self.request.environ).write(locks, sources, with_addresses=True)
        for lock in written.locks:
            _cache_lock(self.request, written.text, lock)
        return written.text

    def solve(self, platform: str, *, is_portable: bool) -> CondaLock:
        """Return the lock for a platform, with ``is_portable`` for any machine of it.

        Raises:
            EnvironmentSetupError: no set of packages satisfies the file, or a channel or the index can't be reached.
        """
        request, report = self.request, self.report
        spec = conda_spec(request, platform)
        tool = self.choose(request, platform, spec.channels)
        _announce(request, spec, platform, report)
        as_of = format_time(request.as_of) if tool.knows_dates else None
        if request.as_of and not tool.knows_dates:
            _notice(report, f"{tool.name} can't resolve as of a date: resolved with the newest versions")
        solved = tool.solve(spec.specs, as_of, self.log, is_portable=is_portable)
        for package in solved.packages:
            check_package(package, "a channel")
        if solved.is_mixed:
            _notice(report, "Strict channel priority has no solution: the channels were mixed")
        if solved.undated:
            names = ", ".join(solved.undated)
            _notice(report, f"The channel has no upload dates for {names}: all versions were considered")
        pip = PipPart(request, spec.pip, platform, self.log).lock(solved.packages, format_time(request.as_of), report)
        return CondaLock(
            platform=platform,
            channels=tuple(map(without_channel_credentials, spec.channels)) or tool.usual_channels(),
            packages=solved.packages,
            pip=pip.packages,
            content=spec.digest(platform, request.files),
            is_ours=True,
            as_of=as_of,
            undated=(*solved.undated, *pip.undated),
        )


def _announce(request: CondaRequest, spec: CondaSpec, platform: str, report: Report) -> None:
    when = f" as of {request.as_of:%Y-%m-%d}" if request.as_of else ""
    count = len(spec.specs) + len(spec.pip.requirements) + len(spec.pip.local_packages)
    message = f"Resolving {counted(count, 'requirement')} with conda for {platform}{when}"
    hint = "'--as-of DATE' sets another day, '--as-of now' allows the newest versions" if when else None
    report(Event(kind=EventKind.NOTICE if when else EventKind.STEP, message=message, hint=hint))


def lock_beside(files: ProjectFiles | None, declared: CondaFile, platform: str) -> CondaFile | None:
    """Return the lock beside a conda file, or None if there is none."""
    for name in BESIDE if files else ():
        path = posixpath.join(posixpath.dirname(declared.path), name.format(platform=platform))
        content = files.read(path) if files else None
        if content is not None and is_conda_lock(text := content.decode("utf-8", "replace")):
            return CondaFile(path=path, text=text)
    return None


def read_cached_lock(request: CondaRequest, text: str, path: str, platform: str) -> CondaLock:
    """Read a lock and cache the result, because the import of conda-lock and parsing take seconds.

    Raises:
        EnvironmentSetupError: the text is no lock, or has no packages for the platform or one without a digest.
    """
    try:
        return msgspec.msgpack.decode(read_checksummed(_cached_path(request, text, platform)), type=CondaLock)
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        lock = read_conda_lock(text, path, platform, LockFiles(environ=request.environ).read)
    _cache_lock(request, text, lock)
    return lock


def _cache_lock(request: CondaRequest, text: str, lock: CondaLock) -> None:
    with suppress(OSError):  # on a full disk the lock is parsed again the next time
        write_checksummed(_cached_path(request, text, lock.platform), msgspec.msgpack.encode(lock))


def _cached_path(request: CondaRequest, text: str, platform: str) -> Path:
    key = hashlib.sha256(msgspec.json.encode((FORMAT, platform, text))).hexdigest()[:32]
    return request.home.locks / f"{key}.read"


def _stored_path(request: CondaRequest, platform: str, choose: ToolChoice) -> Path:
    spec = conda_spec(request, platform)
    tool = choose(request, platform, spec.channels)
    when = request.as_of.isoformat() if request.as_of else "now"
    identity = (FORMAT, tool.name, spec.digest(platform, request.files), when)
    return request.home.locks / f"{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]}.conda-lock.yml"


def _differences(spec: CondaSpec, lock: CondaLock) -> Iterator[str]:
    """Yield the requirements of a file that a lock of another tool does not satisfy."""
    versions = {package.name: package.version for package in lock.packages}
    pip = {canonical_name(package.name) for package in lock.pip}
    for text in spec.specs:
        match = SPEC.fullmatch(text)
        name = match["name"].lower() if match else text
        if name not in versions:
            yield f"'{text}' is not in it"
        elif match and not _admits(match["rest"], versions[name]):
            yield f"'{text}' is locked to {versions[name]}"
    for line in spec.pip.requirements:
        found = re.match(r"[\w.-]+", line)
        name = canonical_name(found[0]) if found else line
        if name not in pip and name not in versions:
            yield f"'{line}' is not in it"


def _admits(rule: str, version: str) -> bool:
    """Return whether a rule admits a version; versions that PEP 440 can't compare are admitted."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(version_rule(rule)).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion, ValueError):
        return True


def _notice(report: Report, message: str) -> None:
    report(Event(kind=EventKind.NOTICE, message=message))
