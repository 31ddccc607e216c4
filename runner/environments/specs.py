"""Defines what a project declares about its environment, before anything is resolved: one kind of spec per backend."""

import re
from collections.abc import Sequence
from typing import TypeGuard

from msgspec import Struct, structs

from runner.model import ContainerSpec, EnvironmentKind

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
    """The reason why the Python index can't provide the packages of a spec."""

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


class RecordedLock(Struct, frozen=True, kw_only=True):
    """The lock of conda packages that an earlier run had, and its recorded digest."""

    path: str
    text: str
    digest: str | None


class EnvironmentSpec(Struct, frozen=True, kw_only=True):
    """The part that all kinds of specs share.

    ``kind`` is that of the declaration, ``file`` the declared file, ``notices`` are messages about what was left out,
    ``repairs`` are messages about what was changed so that an old project runs.
    """

    kind: EnvironmentKind = EnvironmentKind.NONE
    file: str | None = None
    notices: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    @property
    def container(self) -> ContainerSpec | None:
        """The container that the project declares."""
        return None

    @property
    def refusal(self) -> Refusal | None:
        """The reason why no environment of Python packages can be built."""
        return None

    @property
    def is_locked(self) -> bool:
        """Whether every requirement is pinned with hashes, so that nothing is left to resolve."""
        return False

    @property
    def is_empty(self) -> bool:
        """Whether no package is to be installed."""
        return True


class ImageSpec(EnvironmentSpec, frozen=True, kw_only=True, tag="image"):
    """A declared container."""

    kind: EnvironmentKind = EnvironmentKind.DOCKER_ENV
    container: ContainerSpec = ContainerSpec()


class PythonSpec(EnvironmentSpec, frozen=True, kw_only=True, tag="python"):
    """Packages of the Python index.

    ``python`` is a version rule (``3.9``, ``3.9.18``, ``>=3.8,<3.11``). The lines are those of pip's requirements
    files, one requirement each: ``requirements`` and ``build_requirements`` are installed, ``constraints`` only limit
    versions. ``options`` are pip's global options such as ``--extra-index-url``; they may hold credentials and are
    never recorded. A lock beside the file is ``project_lock``; one that does not match the file sets ``refusal``.
    """

    python: str | None = None
    requirements: tuple[str, ...] = ()
    build_requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    local_packages: tuple[LocalPackage, ...] = ()
    refusal: Refusal | None = None
    project_lock: ProjectLock | None = None

    @property
    def locked_by(self) -> str | None:
        """The digest of a lock in another format than requirement lines."""
        return None

    @property
    def departures(self) -> tuple[str, ...]:
        """Messages about packages of the file that are not installed as declared."""
        return ()

    @property
    def requirement_lines(self) -> tuple[str, ...]:
        """The lines that determine the packages, with an empty line between each two kinds of them."""
        return (*self.requirements, "", *self.build_requirements, "", *self.constraints)

    @property
    def is_locked(self) -> bool:
        """Whether every requirement is pinned with hashes, so that nothing is left to resolve."""
        lines = self.requirements + self.build_requirements
        return bool(lines) and all(re.search(PINNED, line) for line in lines)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be installed."""
        return not (self.requirements or self.build_requirements or self.local_packages or self.locked_by)


class NoSpec(PythonSpec, frozen=True, kw_only=True, tag="none"):
    """Nothing is declared: an environment without packages.

    ``container`` is the development container of the project, which is used only on request.
    """

    container: ContainerSpec | None = None


class UvLockSpec(PythonSpec, frozen=True, kw_only=True, tag="uv_lock"):
    """A project with a ``uv.lock``, which only uv can read; ``locked_by`` is its digest."""

    kind: EnvironmentKind = EnvironmentKind.UV_LOCK
    locked_by: str


class CondaFileSpec(PythonSpec, frozen=True, kw_only=True, tag="conda"):
    """A conda file, and its equivalent on the Python index.

    ``mapping`` has messages about how its packages were mapped; ``refusal`` is the reason why they can't be.
    ``locked_by`` is the digest of the lock of conda packages that is used, ``added`` are packages of the Python index
    that a repair added. ``recorded_lock`` replaces every other lock.
    """

    kind: EnvironmentKind = EnvironmentKind.CONDA_ENV
    conda: CondaFile
    mapping: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    locked_by: str | None = None
    recorded_lock: RecordedLock | None = None
    added: tuple[str, ...] = ()


AnySpec = PythonSpec | NoSpec | UvLockSpec | CondaFileSpec | ImageSpec


class StoredSpec(Struct, frozen=True):
    """A spec of any kind in a form that can be stored and read."""

    spec: AnySpec


class RequirementLines(Struct, kw_only=True):
    """The lines of requirements files while they are collected, mostly with the fields of `PythonSpec`."""

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
) -> PythonSpec:
    """Return the spec of collected lines, without duplicates and in the order of their first occurrence."""
    return PythonSpec(
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


def is_changeable(spec: EnvironmentSpec) -> TypeGuard[PythonSpec]:
    """Return whether a spec may be repaired; a locked spec or a container may not."""
    if not isinstance(spec, PythonSpec) or spec.container:
        return False
    return not (spec.is_locked or spec.locked_by or spec.project_lock)


def with_packages(spec: PythonSpec, names: Sequence[str], repairs: Sequence[str]) -> PythonSpec:
    """Return a spec with more packages of the Python index and the messages about them."""
    if isinstance(spec, CondaFileSpec):
        spec = structs.replace(spec, added=tuple(dict.fromkeys((*spec.added, *names))))
    return structs.replace(
        spec,
        requirements=tuple(dict.fromkeys((*spec.requirements, *names))),
        repairs=tuple(dict.fromkeys((*spec.repairs, *repairs))),
    )
