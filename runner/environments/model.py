"""The words of environments: what is asked for, what was resolved, what is ready to run in."""

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
"""How a requirement looks that leaves nothing to resolve."""


class LocalPackage(Struct, frozen=True, kw_only=True):
    """A package whose source is part of the project: a folder, or a wheel or archive file.

    ``path`` is POSIX and relative to the project folder, ``.`` being that folder itself.
    """

    path: str
    extras: tuple[str, ...] = ()
    editable: bool = False

    @property
    def text(self) -> str:
        """The package as a requirement line has it."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{'-e ' if self.editable else ''}{self.path}{extras}"


class CondaFile(Struct, frozen=True, kw_only=True):
    """A file of conda as it stands in the project, for the member that takes it as it is."""

    path: str
    text: str


class Refusal(Struct, frozen=True, kw_only=True):
    """Why the Python index can't give what a file of conda asks for."""

    message: str
    context: str | None = None
    hint: str | None = None


class ProjectLock(Struct, frozen=True, kw_only=True):
    """A lock that stands beside the spec in the project.

    ``text`` are its requirement lines with the header. ``pythons`` is the rule that it was resolved for; ``python`` is
    the release line of that rule with which it was made, and with which it is used where that one is there.
    """

    path: str
    text: str
    python: str
    pythons: str


class EnvironmentSpec(Struct, frozen=True, kw_only=True):
    """What a project asks of its environment, before anything is resolved.

    ``python`` is a version rule (``3.9``, ``3.9.18``, ``>=3.8,<3.11``). The lines are those of pip's requirements
    files, one requirement each: ``requirements`` and ``build_requirements`` are installed, ``constraints`` only bound
    them. ``options`` are pip's global options such as ``--extra-index-url``; they may hold credentials and are never
    recorded. ``locked_by`` is the digest of a lock that uv must read. ``notices`` say what was left out.

    Of a file of conda these are what it is on the Python index: ``mapping`` says how its packages were mapped,
    ``refusal`` why they can't be, and ``conda`` is the file itself.

    ``project_lock`` is the lock beside the file; one that is not of the file as it is now makes a ``refusal``.
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
    """Those of the words about the mapping that say what of the file is not installed."""
    refusal: Refusal | None = None
    project_lock: ProjectLock | None = None
    added: tuple[str, ...] = ()
    """Packages of the Python index that a repair added; the member that takes a file of conda as it is has them too."""
    repairs: tuple[str, ...] = ()
    """What was changed so that an old project runs, each in words for a person; empty where it is as declared."""

    @property
    def is_locked(self) -> bool:
        """Say whether every requirement is pinned with hashes, so that nothing is left to resolve."""
        lines = self.requirements + self.build_requirements
        return bool(lines) and all(re.search(PINNED, line) for line in lines)

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is asked to be installed."""
        return not (self.requirements or self.build_requirements or self.local_packages or self.locked_by)


class RequirementLines(Struct, kw_only=True):
    """The lines of requirements files while they are collected; the fields are those of `EnvironmentSpec`."""

    requirements: list[str]
    constraints: list[str]
    options: list[str]
    local_packages: list[LocalPackage]
    notices: list[str]


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
    """Return the spec that was collected, each line once and in its first place."""
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
    """Return a spec that asks for more packages of the Python index, and says so."""
    return structs.replace(
        spec,
        requirements=tuple(dict.fromkeys((*spec.requirements, *names))),
        added=tuple(dict.fromkeys((*spec.added, *names))),
        repairs=tuple(dict.fromkeys((*spec.repairs, *repairs))),
    )


class ProjectTree(Protocol):
    """The frozen tree of the project, from which packages that are part of it are built."""

    def digest(self, path: str) -> str:
        """Return a digest of the content of a folder or file; ``.`` is the project folder."""
        ...

    def folder(self) -> Path:
        """Return a folder in which the project folder is laid out; it is only read."""
        ...

    def left_out(self) -> frozenset[Path]:
        """Return files and folders in it that are not of the tree: no package is built with them."""
        ...


class EnvironmentRequest(Struct, frozen=True, kw_only=True):
    """What an environment is wanted for.

    ``as_of`` is the time up to which packages are considered, None for now; ``refresh`` resolves again what was
    resolved before. ``files`` and ``tree`` are the frozen project; they are needed when the spec has local packages, or
    an image to build. ``code`` identifies the content of the project folder.
    """

    spec: EnvironmentSpec
    home: Home
    files: ProjectFiles | None = None
    tree: ProjectTree | None = None
    as_of: datetime | None = None
    refresh: bool = False
    code: str | None = None
    repair: bool = False
    """Whether pins and the interpreter may be changed where the project can't be had as declared."""
    wanted: tuple[str, ...] = ()
    """The modules that the code imports from outside."""
    environ: Mapping[str, str] = os.environ
    report: Report | None = None
    """Who is told what of resolving and installing takes long."""


class Lock(Struct, frozen=True, kw_only=True):
    """What a spec was resolved to: a requirements file with hashes for one interpreter and platform.

    ``digest`` is that of the requirements without comments. ``as_of`` is the RFC 3339 time up to which packages were
    considered, None when all were; ``undated`` are packages of which the index gave no dates. ``path`` is where it is
    kept.
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
    """The packages in it, called as on the Python index, where its text is not a requirements file."""
    file_name: str = "lock.txt"
    """What it is called where it is kept with a run."""


class Prepared(Struct, frozen=True, kw_only=True):
    """An environment that is proven and ready.

    ``path_entries`` come first on the command's PATH. ``import_paths`` are folders of the project, relative to the
    project folder, from which editable packages are imported in the run's own folder. ``container`` is the image that
    the command runs in, None where it runs on this machine itself.
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
        """Return the environment with a folder from which its Pythons import before what is installed."""
        if self.prefix is None:  # not made by us, so that nothing in it reads our own variable
            known = self.variables.get("PYTHONPATH") or (self.container.import_path if self.container else "")
            path = os.pathsep.join([str(folder), *([known] if known else [])])
            return structs.replace(self, variables={**self.variables, "PYTHONPATH": path})
        return structs.replace(self, import_paths=(str(folder), *self.import_paths))

    def inherited(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return what of the caller's variables the command gets: in a container those that are named, else all."""
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


def lead_paths(environment: Prepared, leads: Mapping[str, Path]) -> Prepared:
    """Return an environment whose Pythons read other files in the stead of absolute paths that are not there."""
    if not leads:
        return environment
    leading = {LED_PATHS: msgspec.json.encode([(path, str(file)) for path, file in leads.items()]).decode()}
    environment = structs.replace(environment, variables={**environment.variables, **leading})
    return environment.importing(INSIDE)


Fill = Callable[[Path], None]
"""Puts an environment into an empty folder."""

IMPORT_PATH = "PROJ_IMPORT_PATH"
"""The variable that names folders to import from, before what is installed; read in every environment of ours."""

INSIDE = Path(__file__).parent / "repair" / "path_shim"
"""The folder with the module that leads paths, which the Pythons of an environment of ours import at their start."""

LED_PATHS = "PROJ_PATHS"
"""The variable that tells this module which paths it leads."""
