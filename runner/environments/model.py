"""Defines environments: the declared spec, the lock that it resolves to, and the prepared environment."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct, structs

from runner.engine import ContainerRun
from runner.environments.interpreters.interpreters import Interpreter
from runner.model import ContainerSpec, EnvironmentKind, EnvironmentRecord, ProjectFiles, Report
from runner.settings import Home

PINNED = r"(==|@).*--hash=|@ *git\+.*@[0-9a-f]{40}\b"
"""A requirement that is pinned with a hash, a digest or a commit, so that nothing is left to resolve."""


class LocalPackage(Struct, frozen=True, kw_only=True):
    """A package whose source is part of the project: a folder, or a wheel or archive file.

    ``path`` is a POSIX path relative to the project folder; ``.`` is the project folder itself.
    """

    path: str
    extras: tuple[str, ...] = ()
    editable: bool = False

    @property
    def text(self) -> str:
        """The package as a requirement line."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{'-e ' if self.editable else ''}{self.path}{extras}"


class CondaFile(Struct, frozen=True, kw_only=True):
    """A conda file of the project, for the conda backend."""

    path: str
    text: str


class Refusal(Struct, frozen=True, kw_only=True):
    """The reason why the Python index can't provide the packages of a conda file."""

    message: str
    context: str | None = None
    hint: str | None = None


class ProjectLock(Struct, frozen=True, kw_only=True):
    """A lock that the project has beside its environment file.

    ``text`` is its requirement lines with the header. ``pythons`` is the version rule that it was resolved for;
    ``python`` is the release line that it was made with, which is preferred where it is installed.
    """

    path: str
    text: str
    python: str
    pythons: str


class EnvironmentSpec(Struct, frozen=True, kw_only=True):
    """The environment that a project declares, before anything is resolved.

    ``python`` is a version rule (``3.9``, ``3.9.18``, ``>=3.8,<3.11``). The lines are those of pip's requirements
    files, one requirement each: ``requirements`` and ``build_requirements`` are installed, ``constraints`` only limit
    versions. ``options`` are pip's global options such as ``--extra-index-url``; they may hold credentials and are
    never recorded. ``locked_by`` is the digest of a lock that uv must read. ``notices`` are messages about what was
    left out.

    For a conda file, the other fields describe its equivalent on the Python index: ``mapping`` has messages about how
    its packages were mapped, ``refusal`` is the reason why they can't be, and ``conda`` is the file itself.

    ``project_lock`` is the lock beside the file; a lock that does not match the file sets ``refusal``.
    """

    kind: EnvironmentKind = EnvironmentKind.NONE
    file: str | None = None
    python: str | None = None
    requirements: tuple[str, ...] = ()
    build_requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    local_packages: tuple[LocalPackage, ...] = ()
    container: ContainerSpec | None = None
    locked_by: str | None = None
    notices: tuple[str, ...] = ()
    conda: CondaFile | None = None
    mapping: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    """Messages about packages of the file that are not installed as declared."""
    refusal: Refusal | None = None
    project_lock: ProjectLock | None = None
    added: tuple[str, ...] = ()
    """Packages of the Python index that a repair added; the conda backend installs them too."""
    repairs: tuple[str, ...] = ()
    """Messages about what was changed so that an old project runs; empty if nothing was."""

    @property
    def is_locked(self) -> bool:
        """Whether every requirement is pinned with hashes, so that nothing is left to resolve."""
        lines = self.requirements + self.build_requirements
        return bool(lines) and all(re.search(PINNED, line) for line in lines)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be installed."""
        return not (self.requirements or self.build_requirements or self.local_packages or self.locked_by)


class RequirementLines(Struct, kw_only=True):
    """The lines of requirements files while they are collected, mostly with the fields of `EnvironmentSpec`."""

    requirements: list[str]
    constraints: list[str]
    options: list[str]
    local_packages: list[LocalPackage]
    notices: list[str]
    files_read: set[tuple[str, bool]] = set()
    """The files that were read, and whether as constraints."""
    count: int = 0
    """How many lines were read."""


def collect() -> RequirementLines:
    """Return an empty collection."""
    return RequirementLines(requirements=[], constraints=[], options=[], local_packages=[], notices=[])


def specify(
    kind: EnvironmentKind,
    file: str | None,
    lines: RequirementLines,
    *,
    python: str | None = None,
    build_requirements: Sequence[str] = (),
) -> EnvironmentSpec:
    """Return the spec of collected lines, without duplicates and in the order of their first occurrence."""
    return EnvironmentSpec(
        kind=kind,
        file=file,
        python=python,
        requirements=tuple(dict.fromkeys(lines.requirements)),
        build_requirements=tuple(dict.fromkeys(build_requirements)),
        constraints=tuple(dict.fromkeys(lines.constraints)),
        options=tuple(dict.fromkeys(lines.options)),
        local_packages=tuple(dict.fromkeys(lines.local_packages)),
        notices=tuple(dict.fromkeys(lines.notices)),
    )


def with_packages(spec: EnvironmentSpec, names: Sequence[str], repairs: Sequence[str]) -> EnvironmentSpec:
    """Return a spec with more packages of the Python index and the messages about them."""
    return structs.replace(
        spec,
        requirements=tuple(dict.fromkeys((*spec.requirements, *names))),
        added=tuple(dict.fromkeys((*spec.added, *names))),
        repairs=tuple(dict.fromkeys((*spec.repairs, *repairs))),
    )


class ProjectTree(Protocol):
    """The frozen tree of the project, from which its own packages are built."""

    def digest(self, path: str) -> str:
        """Return a digest of the content of a folder or file; ``.`` is the project folder."""
        ...

    def folder(self) -> Path:
        """Return a read-only folder with a checkout of the project folder."""
        ...

    def left_out(self) -> frozenset[Path]:
        """Return files and folders in the checkout that are not part of the tree and of no package."""
        ...


class EnvironmentRequest(Struct, frozen=True, kw_only=True):
    """A request for an environment.

    ``as_of`` is the package cutoff date, None for now. ``refresh`` resolves again although a lock is stored. ``files``
    and ``tree`` are the frozen project; they are needed for local packages and to build an image. ``code`` identifies
    the content of the project folder.
    """

    spec: EnvironmentSpec
    home: Home
    files: ProjectFiles | None = None
    tree: ProjectTree | None = None
    as_of: datetime | None = None
    refresh: bool = False
    code: str | None = None
    repair: bool = False
    """Whether pins and the interpreter may be changed if the environment can't be built as declared."""
    wanted: tuple[str, ...] = ()
    """The external modules that the code imports."""
    environ: Mapping[str, str] = os.environ
    report: Report | None = None
    """Receives progress of slow steps of resolving and installing."""


class BackendCapabilities(Struct, frozen=True, kw_only=True):
    """Properties of a backend. Code that uses backends checks these, not their names."""

    builds_prefixes: bool = False
    """Whether it builds prefixes, into which packages of the Python index can be installed."""
    maps_conda_files: bool = False
    """Whether it installs the packages of conda files from the Python index."""
    provides_images: bool = False
    """Whether it provides images, in which commands run."""


class Lock(Struct, frozen=True, kw_only=True):
    """A resolved spec: a requirements file with hashes for one interpreter and platform.

    ``digest`` is that of the requirements without comments. ``as_of`` is the package cutoff date as an RFC 3339 time,
    None without one; ``undated`` are packages for which the index has no dates. ``path`` is the stored file.
    """

    text: str
    digest: str
    interpreter: Interpreter
    as_of: str | None = None
    undated: tuple[str, ...] = ()
    path: Path | None = None
    repairs: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """The packages in it by their names on the Python index, if its text is not a requirements file."""
    file_name: str = "lock.txt"
    """The file name under which it is stored with a run."""


class Prepared(Struct, frozen=True, kw_only=True):
    """An environment that is verified and ready to use.

    ``path_entries`` come first on the command's PATH. ``import_paths`` are folders relative to the project folder, from
    which editable packages are imported in the run folder. ``container`` is the image that the command runs in, None if
    it runs directly on this machine.
    """

    record: EnvironmentRecord
    prefix: Path | None = None
    path_entries: tuple[Path, ...] = ()
    variables: Mapping[str, str] = {}
    import_paths: tuple[str, ...] = ()
    container: ContainerRun | None = None

    @property
    def shell(self) -> str:
        """The shell that runs the command."""
        return self.container.shell if self.container else "bash"

    def importing(self, folder: Path) -> "Prepared":
        """Return the environment with a folder from which its Pythons import before installed packages."""
        if self.prefix is None:  # not built by proj, so nothing in it reads IMPORT_PATH
            known = self.variables.get("PYTHONPATH") or (self.container.import_path if self.container else "")
            path = os.pathsep.join([str(folder), *([known] if known else [])])
            return structs.replace(self, variables={**self.variables, "PYTHONPATH": path})
        return structs.replace(self, import_paths=(str(folder), *self.import_paths))

    def inherited(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return the caller's variables that the command gets: in a container only the declared ones, else all."""
        if self.container is None:
            return environ
        return {name: environ[name] for name in self.container.copied if name in environ}

    def variables_in(self, project_folder: Path) -> Mapping[str, str]:
        """Return the variables for a command that runs in a project folder."""
        if not self.import_paths:
            return self.variables
        own = [str(project_folder / path) for path in self.import_paths]
        kept = self.variables.get(IMPORT_PATH)
        return {**self.variables, IMPORT_PATH: os.pathsep.join([*own, kept] if kept else own)}


def redirect_paths(environment: Prepared, leads: Mapping[str, Path]) -> Prepared:
    """Return an environment whose Pythons open other files in place of absolute paths that do not exist."""
    if not leads:
        return environment
    leading = {REDIRECTED_PATHS: msgspec.json.encode([(path, str(file)) for path, file in leads.items()]).decode()}
    environment = structs.replace(environment, variables={**environment.variables, **leading})
    return environment.importing(PATH_SHIM)


BuildFunction = Callable[[Path], None]
"""Builds an environment in an empty folder."""

IMPORT_PATH = "PROJ_IMPORT_PATH"
"""The variable with folders to import from before installed packages; each environment of proj reads it."""

PATH_SHIM = Path(__file__).parent / "repair" / "path_shim"
"""The folder of the module that redirects paths; the Pythons of an environment import it when they start."""

REDIRECTED_PATHS = "PROJ_PATHS"
"""The variable with the paths that this module redirects."""
