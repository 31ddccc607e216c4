"""Reads the lock beside a spec in the project: its name, its header, and whether it matches the spec."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec
from msgspec import Struct, structs

from runner.base.foreign_text import ForeignTextError, parse_toml
from runner.base.lazy import LazyModule
from runner.environments.declare.conda.files import select_lines, this_platform
from runner.environments.declare.declared_lines import CompiledLock, find_compiled, source_spec
from runner.environments.declare.source_trees import metadata_digest
from runner.environments.specs import AnySpec, CondaFileSpec, EnvironmentSpec, ProjectLock, PythonSpec, Refusal
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles
from runner.urls import without_credentials

if TYPE_CHECKING:
    from runner.environments.declare import pylock
else:
    pylock = LazyModule("runner.environments.declare.pylock")

SIGNATURE = "# proj lock: 1"
FIELD = re.compile(r"^# (?P<name>[a-z][a-z ]*): (?P<value>.*)$", re.MULTILINE)
TABLE = b"[tool.proj]"
STANDARD = "pylock.toml"
LOCKABLE = frozenset({EnvironmentKind.PYTHON_ENV, EnvironmentKind.CONDA_ENV, EnvironmentKind.REQUIREMENTS})
SHOWN = 8


class LockHeader(Struct, frozen=True, kw_only=True, rename={"as_of": "as of", "undated": "no dates for"}):
    """The header of a lock: comments in a requirements file, or ``[tool.proj]`` in a ``pylock.toml``.

    ``asked`` are the lines of the spec, ``digest`` is their digest. Empty ``platforms`` means every platform.
    """

    spec: str
    digest: str
    command: str
    as_of: str = "now"
    python: str = ""
    interpreter: str = ""
    platforms: str = ""
    undated: str = ""
    asked: tuple[str, ...] = ()


class FoundLock(Struct, frozen=True, kw_only=True):
    """A lock by proj in a project: its path, its header, and its requirement lines with the header."""

    path: str
    header: LockHeader
    text: str


def lock_name(spec_path: str) -> str:
    """Return the path of the lock of a spec: ``python_env.yaml`` has ``python_env.lock`` beside it."""
    folder, name = posixpath.split(spec_path)
    return posixpath.join(folder, f"{name.rpartition('.')[0] or name}.lock")


def with_project_lock(spec: AnySpec, files: ProjectFiles) -> AnySpec:
    """Return a spec with the lock beside it; a lock for another spec or other platforms sets ``refusal``."""
    pair = lock_pair(spec, files)
    if pair is None or pair.found is None or not isinstance(spec, PythonSpec):
        return spec
    found = pair.found
    refusal = _refusal(pair, found, files) if found.header.digest else None
    if refusal:
        return structs.replace(spec, refusal=refusal)
    if pair.is_compiled:
        return spec  # its requirements are those of the lock
    header = found.header
    lock = ProjectLock(path=found.path, text=found.text, python=header.interpreter, pythons=header.python)
    return structs.replace(spec, project_lock=lock)


class LockPair(Struct, frozen=True, kw_only=True):
    """The declaration that a lock is made from, and the path of the lock.

    ``found`` is the present lock. With ``is_compiled`` the lock is the requirements file that runs read.
    """

    spec: PythonSpec
    path: str
    found: FoundLock | None = None
    is_compiled: bool = False


def lock_pair(spec: EnvironmentSpec, files: ProjectFiles) -> LockPair | None:
    """Return what is declared and what is its lock, or None if there is nothing to resolve.

    Raises:
        EnvironmentSetupError: the declaration or the header of the lock can't be read.
    """
    compiled = find_compiled(spec, files) if isinstance(spec, PythonSpec) and spec.is_locked else None
    if compiled and isinstance(spec, PythonSpec):
        source = source_spec(spec, compiled, files)
        return LockPair(spec=source, path=compiled.path, found=_read_compiled(compiled, files), is_compiled=True)
    if not is_lockable(spec):
        return None
    found = find_project_lock(spec, files)
    return LockPair(spec=spec, path=found.path if found else lock_name(spec.file or ""), found=found)


def _read_compiled(compiled: CompiledLock, files: ProjectFiles) -> FoundLock:
    """Return a compiled lock; one by another tool has an empty header, so that nothing is known about its source."""
    text = (files.read(compiled.path) or b"").decode("utf-8", "replace")
    is_ours = text.startswith(SIGNATURE)
    unknown = LockHeader(spec=posixpath.basename(compiled.source), digest="", command="")
    return FoundLock(path=compiled.path, header=read_header(text, compiled.path) if is_ours else unknown, text=text)


def is_lockable(spec: EnvironmentSpec) -> TypeGuard[PythonSpec]:
    """Return whether a lock can be made for a spec: it is no lock itself and has something to resolve."""
    can = spec.kind in LOCKABLE and spec.file is not None and spec.refusal is None
    return isinstance(spec, PythonSpec) and can and not spec.is_locked and not spec.is_empty


def find_project_lock(spec: EnvironmentSpec, files: ProjectFiles) -> FoundLock | None:
    """Return the lock by proj beside a spec; files of the same name by other tools are ignored."""
    path = lock_name(spec.file or "")
    text = (files.read(path) or b"").decode("utf-8", "replace")
    if text.startswith(SIGNATURE):
        return FoundLock(path=path, header=read_header(text, path), text=text)
    path = posixpath.join(posixpath.dirname(spec.file or ""), STANDARD)
    content = files.read(path) or b""
    if TABLE not in content:
        return None
    header = _read_table(content, path)
    if header.spec != posixpath.basename(spec.file or ""):
        return None
    lines = pylock.read_pylock(path, content, files).requirements
    return FoundLock(path=path, header=header, text=write_header(header) + "".join(f"{line}\n" for line in lines))


def spec_lines(spec: PythonSpec, files: ProjectFiles | None) -> tuple[str, ...]:
    """Return the content of a spec as lines without credentials; equal lines mean that the lock is up to date."""
    return tuple(dict.fromkeys(_spec_lines(spec, files)))


def lines_digest(asked: Iterable[str]) -> str:
    """Return the digest of the lines of a spec."""
    return "sha256:" + hashlib.sha256("\n".join(asked).encode()).hexdigest()


def has_selectors(spec: PythonSpec) -> TypeGuard[CondaFileSpec]:
    """Return whether a conda file has platform selectors."""
    if not isinstance(spec, CondaFileSpec):
        return False
    text = spec.conda.text
    return select_lines(text, this_platform()) != "\n".join(text.splitlines()) + "\n"


def _spec_lines(spec: PythonSpec, files: ProjectFiles | None) -> Iterator[str]:
    if spec.python:
        yield f"python {spec.python}"
    if has_selectors(spec):
        lines = (line.strip() for line in spec.conda.text.splitlines())
        yield from (f"conda: {line}" for line in lines if line and "://" not in line)
        return
    yield from map(without_credentials, spec.requirements)
    yield from (f"build: {without_credentials(line)}" for line in spec.build_requirements)
    yield from (f"-c {without_credentials(line)}" for line in spec.constraints)
    yield from (option for option in spec.options if "binary" in option or "--pre" in option)
    for package in spec.local_packages:
        yield f"{package.text} metadata {metadata_digest(files, package.path)[:16]}"


def write_header(header: LockHeader) -> str:
    """Format a header as comments."""
    note = f"# Every package with its hashes; change {header.spec} and lock again."
    values: dict[str, Any] = msgspec.to_builtins(header)
    asked = values.pop("asked")
    lines = [f"# {name}: {value}" for name, value in values.items() if value]
    return "\n".join([SIGNATURE, note, *lines, *(f"# asked: {line}" for line in asked)]) + "\n"


def read_header(text: str, path: str) -> LockHeader:
    """Parse the header of a lock.

    Raises:
        EnvironmentSetupError: a required field is missing.
    """
    fields: dict[str, Any] = {"asked": []}
    for line in text.splitlines():
        match = FIELD.match(line)
        if not line.startswith("#"):
            break
        if match and match["name"] == "asked":
            fields["asked"].append(match["value"])
        elif match:
            fields[match["name"]] = match["value"]
    return _convert(fields, path)


def _read_table(content: bytes, path: str) -> LockHeader:
    try:
        return _convert(parse_toml(content)["tool"]["proj"], path)
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"{path} can't be read: {error}", context=path) from None
    except (KeyError, TypeError) as error:
        raise EnvironmentSetupError(f"{path} has no table 'tool.proj'", context=path) from error


def _convert(fields: Mapping[str, Any], path: str) -> LockHeader:
    try:
        return msgspec.convert(fields, LockHeader)
    except msgspec.ValidationError as error:
        raise EnvironmentSetupError(
            f"the header of {path} is damaged: {error}", context=path, hint="Make it again with 'proj lock'."
        ) from error


def differences(found: FoundLock, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the differences between a spec and the one that a lock was made for; none if the lock is up to date."""
    if not found.header.digest:
        return (f"{found.path} does not say what it was made from",)
    if found.header.digest == lines_digest(asked):
        return ()
    before = set(found.header.asked)
    new = [f"new in the file: {line}" for line in asked if line not in before]
    gone = [f"no longer in the file: {line}" for line in found.header.asked if line not in asked]
    return (*new, *gone) or ("the lines are in another order, or the header was edited",)


def _refusal(pair: LockPair, found: FoundLock, files: ProjectFiles) -> Refusal | None:
    spec = pair.spec
    platforms = found.header.platforms.split()
    if platforms and not any(_is_here(name) for name in platforms):
        return Refusal(
            message=f"{found.path} is for {', '.join(platforms)}, but this machine is {this_platform()}",
            context=found.path,
            hint="'proj lock' makes one for every platform on which its packages have a solution.",
        )
    stale = differences(found, spec_lines(spec, files))
    if not stale:
        return None
    command = "proj lock --format pylock" if posixpath.basename(found.path) == STANDARD else "proj lock"
    more = [f"… and {len(stale) - SHOWN} more"] if len(stale) > SHOWN else []
    way_out = "" if pair.is_compiled else f", or remove {found.path} to resolve the project again"
    return Refusal(
        message=f"{found.path} is out of date: it does not match {spec.file}",
        context="\n".join([*stale[:SHOWN], *more]),
        hint=f"Update it with '{command}'{way_out}.",
    )


def _is_here(platform: str) -> bool:
    here = this_platform()
    return platform == here or platform == here.partition("-")[0]
