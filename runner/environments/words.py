"""What an environment's declaring file asks for, whatever kind of file it is."""

from collections.abc import Sequence

from msgspec import Struct

from runner.model import ContainerSpec, EnvironmentKind


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


class EnvironmentSpec(Struct, frozen=True, kw_only=True):
    """What a project asks of its environment, before anything is resolved.

    ``python`` is a version rule (``3.9``, ``3.9.18``, ``>=3.8,<3.11``). The lines are those of pip's requirements
    files, one requirement each: ``requirements`` and ``build_requirements`` are installed, ``constraints`` only bound
    them. ``options`` are pip's global options such as ``--extra-index-url``; they may hold credentials and are never
    recorded. ``notices`` say what was mapped or left out.
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
    notices: tuple[str, ...] = ()

    @property
    def is_locked(self) -> bool:
        """Say whether every requirement is pinned with hashes, so that nothing is left to resolve."""
        lines = self.requirements + self.build_requirements
        return bool(lines) and all("--hash=" in line and "==" in line for line in lines)

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is asked to be installed."""
        return not (self.requirements or self.build_requirements or self.local_packages)


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
