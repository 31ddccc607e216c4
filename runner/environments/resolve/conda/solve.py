"""Finds the lock of a conda environment: the project's own, a kept one, or a new one."""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.backends.conda.command import lock_with_conda_lock
from runner.environments.backends.conda.tools import CondaTool, tool_for
from runner.environments.declare.conda.files import is_conda_lock
from runner.environments.declare.conda.mapping import SPEC, version_rule
from runner.environments.declare.conda.spec import CondaSpec, read_conda_spec
from runner.environments.model import CondaFile, EnvironmentRequest
from runner.environments.resolve.conda.channels import public
from runner.environments.resolve.conda.lockfile import CondaLock, check_package, read_conda_lock, write_conda_lock
from runner.environments.resolve.conda.pip import PipPart
from runner.environments.resolve.lock_files import report_damage, usable_lock, write_lock_file
from runner.environments.resolve.locking import as_text
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, ProjectFiles, Report

FORMAT = 2
BESIDE = ("conda-lock.yml", "conda-{platform}.lock")
"""Locks that conda-lock writes beside an environment file, in the order in which they are taken."""


class FoundLock(Struct, frozen=True, kw_only=True):
    """A lock with its text; ``path`` is where it is kept in proj's home, ``file`` where it is in the project."""

    lock: CondaLock
    text: str
    path: Path | None = None
    file: str | None = None


def conda_spec(request: EnvironmentRequest, platform: str) -> CondaSpec:
    """Return what a request's file of conda asks for on a platform, and what repairs added to it.

    Raises:
        EnvironmentSetupError: it can't be read; all faults are named.
    """
    spec = read_conda_spec(conda_file(request), request.files, platform)
    lines = tuple(dict.fromkeys((*spec.pip.requirements, *request.spec.added)))
    return structs.replace(spec, pip=structs.replace(spec.pip, requirements=lines))


def conda_file(request: EnvironmentRequest) -> CondaFile:
    """Return the file of conda that a request is about."""
    if request.spec.conda is None:
        raise EnvironmentSetupError("a conda environment needs a file of conda")
    return request.spec.conda


def find_conda_lock(request: EnvironmentRequest, platform: str) -> FoundLock | None:
    """Return the lock that is there without resolving: the project's own or a kept one."""
    declared = conda_file(request)
    own = declared if is_conda_lock(declared.text) else lock_beside(request.files, declared, platform)
    if own:
        return FoundLock(lock=read_once(request, own.text, own.path, platform), text=own.text, file=own.path)
    if request.refresh and request.as_of is None:
        return None
    path = _kept(request, platform)
    text = usable_lock(path)
    if text is None:
        return None
    return FoundLock(lock=read_once(request, text, str(path), platform), text=text, path=path)


def disagreements(request: EnvironmentRequest, found: FoundLock) -> tuple[str, ...]:
    """Return in which points a lock of the project is not what its environment file asks for."""
    declared = conda_file(request)
    if found.file is None or found.file == declared.path:
        return ()
    spec = read_conda_spec(declared, request.files, found.lock.platform)
    if not found.lock.is_ours:
        return tuple(_differences(spec, found.lock))
    same = found.lock.content == spec.digest(found.lock.platform, request.files)
    return () if same else ("it was made from another content of that file",)


def check_agreement(request: EnvironmentRequest, found: FoundLock, report: Report) -> tuple[str, ...]:
    """Say, and return in words, that a lock of the project is not what its environment file asks for."""
    declared, differences = conda_file(request), disagreements(request, found)
    if not differences:
        return ()
    told = f"{found.file} does not agree with {declared.path}: {', '.join(differences[:6])}; the lock is used"
    report(Event(kind=EventKind.WARNING, message=told, hint="'proj lock --format conda-lock' makes it anew."))
    return (told,)


def resolve_conda(request: EnvironmentRequest, platform: str, report: Report) -> FoundLock:
    """Resolve a file of conda for a platform and keep the lock.

    Raises:
        EnvironmentSetupError: nothing satisfies the file, or a channel or the index can't be asked.
    """
    path, declared = _kept(request, platform), conda_file(request)
    report_damage(path, report)
    lock = _resolve(request, platform, path.with_suffix(".log"), report, is_portable=False)
    text = write_conda_lock([lock], [declared.path], with_addresses=False)
    kept = write_lock_file(path, text, len(lock.packages) + len(lock.pip))
    return FoundLock(lock=lock, text=kept, path=path)


def path_beside(request: EnvironmentRequest) -> str:
    """Return where the lock of a file of conda belongs in the project."""
    return posixpath.join(posixpath.dirname(conda_file(request).path), BESIDE[0])


def lock_text(request: EnvironmentRequest, platforms: Sequence[str], report: Report) -> str:
    """Return the lock of several platforms that belongs beside a file of conda.

    It is solved for any machine of a platform, and names the files of the Python index with their addresses. Where the
    user names a conda executable and conda-lock is there, conda-lock does it.

    Raises:
        EnvironmentSetupError: nothing satisfies the file, or a channel or the index can't be asked.
    """
    declared, log = conda_file(request), request.home.locks / "conda-lock.log"
    text = lock_with_conda_lock(request, declared, platforms, log)
    if text is not None:
        return text
    locks = [_resolve(request, platform, log, report, is_portable=True) for platform in platforms]
    return write_conda_lock(locks, [posixpath.basename(declared.path)], with_addresses=True)


def _resolve(request: EnvironmentRequest, platform: str, log: Path, report: Report, *, is_portable: bool) -> CondaLock:
    spec = conda_spec(request, platform)
    tool = tool_for(request, platform, spec.channels)
    _announce(request, spec, platform, report)
    as_of = as_text(request.as_of) if tool.knows_dates else None
    if request.as_of and not tool.knows_dates:
        _notice(report, f"{tool.name} can't resolve as of a date: resolved with what its channels have now")
    solved = tool.solve(spec.specs, as_of, log, is_portable=is_portable)
    for package in solved.packages:
        check_package(package, "a channel")
    if solved.is_mixed:
        _notice(report, "The channels are mixed: ranked strictly, they have no solution")
    if solved.undated:
        _notice(report, f"The channel has no dates for {', '.join(solved.undated)}: all versions were considered")
    pip = PipPart(request, spec.pip, platform, log).lock(solved.packages, as_text(request.as_of), report)
    return CondaLock(
        platform=platform,
        channels=tuple(public(channel) for channel in spec.channels) or tool.usual_channels(),
        packages=solved.packages,
        pip=pip.packages,
        content=spec.digest(platform, request.files),
        is_ours=True,
        as_of=as_of,
        undated=(*solved.undated, *pip.undated),
    )


def _announce(request: EnvironmentRequest, spec: CondaSpec, platform: str, report: Report) -> None:
    when = f" as of {request.as_of:%Y-%m-%d}" if request.as_of else ""
    count = len(spec.specs) + len(spec.pip.requirements) + len(spec.pip.local_packages)
    told = f"Resolving {count} requirement{'s' * (count != 1)} with conda for {platform}{when}"
    hint = "'--as-of DATE' takes another day, '--as-of now' what there is today" if when else None
    report(Event(kind=EventKind.NOTICE if when else EventKind.STEP, message=told, hint=hint))


def lock_beside(files: ProjectFiles | None, declared: CondaFile, platform: str) -> CondaFile | None:
    """Return the lock that stands beside a file of conda, None where there is none."""
    for name in BESIDE if files else ():
        path = posixpath.join(posixpath.dirname(declared.path), name.format(platform=platform))
        content = files.read(path) if files else None
        if content is not None and is_conda_lock(text := content.decode("utf-8", "replace")):
            return CondaFile(path=path, text=text)
    return None


def read_once(request: EnvironmentRequest, text: str, path: str, platform: str) -> CondaLock:
    """Read a lock, the YAML of each but once: it takes a second for some.

    Raises:
        EnvironmentSetupError: it is no lock, has nothing for the platform, or has a package without a digest.
    """
    key = hashlib.sha256(msgspec.json.encode((FORMAT, platform, text))).hexdigest()[:32]
    kept = request.home.locks / f"{key}.read"
    try:
        return msgspec.msgpack.decode(read_checksummed(kept), type=CondaLock)
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        lock = read_conda_lock(text, path, platform)
    with suppress(OSError):  # on a full disk it is read again the next time
        write_checksummed(kept, msgspec.msgpack.encode(lock))
    return lock


def _kept(request: EnvironmentRequest, platform: str) -> Path:
    spec = conda_spec(request, platform)
    tool: CondaTool = tool_for(request, platform, spec.channels)
    when = request.as_of.isoformat() if request.as_of else "now"
    identity = (FORMAT, tool.name, spec.digest(platform, request.files), when)
    return request.home.locks / f"{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]}.conda-lock.yml"


def _differences(spec: CondaSpec, lock: CondaLock) -> Iterator[str]:
    """Yield what a file asks for and a lock of another tool does not have."""
    versions = {package.name: package.version for package in lock.packages}
    pip = {re.sub(r"[-_.]+", "-", package.name).lower() for package in lock.pip}
    for text in spec.specs:
        match = SPEC.fullmatch(text)
        name = match["name"].lower() if match else text
        if name not in versions:
            yield f"'{text}' is not in it"
        elif match and not _admits(match["rest"], versions[name]):
            yield f"'{text}' is {versions[name]} in it"
    for line in spec.pip.requirements:
        found = re.match(r"[\w.-]+", line)
        name = re.sub(r"[-_.]+", "-", found[0]).lower() if found else line
        if name not in pip and name not in versions:
            yield f"'{line}' is not in it"


def _admits(rule: str, version: str) -> bool:
    """Say whether a rule admits a version; what can't be compared as Python does is taken to."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(version_rule(rule)).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion, ValueError):
        return True


def _notice(report: Report, message: str) -> None:
    report(Event(kind=EventKind.NOTICE, message=message))
