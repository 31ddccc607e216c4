"""Defines environments: the declared spec, the lock that it resolves to, and the prepared environment."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct, structs

from runner.engine import ContainerRun
from runner.environments.specs import CondaFileSpec, EnvironmentSpec, PythonSpec
from runner.environments.version_rules import Version, parse_version
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentRecord, ProjectFiles, Report
from runner.settings import Home

S_co = TypeVar("S_co", bound=EnvironmentSpec, covariant=True)
T = TypeVar("T", bound=EnvironmentSpec)


class Interpreter(Struct, frozen=True, kw_only=True):
    """A Python for which environments can be made; ``platform`` is that of sysconfig, such as ``linux-x86_64``."""

    path: str
    version: str
    implementation: str
    platform: str

    @property
    def numbers(self) -> Version:
        """The release numbers of the version."""
        return parse_version(self.version)

    @property
    def line(self) -> Version:
        """The release line: major and minor number."""
        return self.numbers[:2]

    @property
    def name(self) -> str:
        """The display name: ``3.11.7``, ``pypy 3.10.13``."""
        return f"{'' if self.implementation == 'cpython' else self.implementation + ' '}{self.version}"


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


class EnvironmentRequest(Struct, Generic[S_co], frozen=True, kw_only=True):
    """A request for the environment of a spec.

    ``as_of`` is the package cutoff date, None for now. ``refresh`` resolves again although a lock is stored. ``files``
    and ``tree`` are the frozen project; they are needed for local packages and to build an image. ``code`` identifies
    the content of the project folder.
    """

    spec: S_co
    home: Home
    files: ProjectFiles | None = None
    tree: ProjectTree | None = None
    as_of: datetime | None = None
    refresh: bool = False
    code: str | None = None
    repair: bool = False
    """Whether the declaration may be repaired."""
    may_replace: bool = True
    """Whether repairs may replace pins and the interpreter if the environment can't be built as declared."""
    interpreter: Interpreter | None = None
    """The interpreter, if it was chosen by an earlier attempt of the run."""
    wanted: tuple[str, ...] = ()
    """The external modules that the code imports."""
    environ: Mapping[str, str] = os.environ
    report: Report | None = None
    """Receives progress of slow steps of resolving and installing."""

    def of(self, kind: type[T]) -> "EnvironmentRequest[T]":
        """Return the request as one for a kind of spec.

        Raises:
            EnvironmentSetupError: the spec is of another kind, so that the backend can't provide it.
        """
        if not isinstance(self.spec, kind):
            raise EnvironmentSetupError(f"this environment can't be made from {self.spec.file or 'the project'}")
        return cast("EnvironmentRequest[T]", self)


AnyRequest = EnvironmentRequest[EnvironmentSpec]
PythonRequest = EnvironmentRequest[PythonSpec]
CondaRequest = EnvironmentRequest[CondaFileSpec]


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
