"""Stores the packages that were added after a failed import, so that the next run has them from its start."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.specs import EnvironmentSpec, PythonSpec, is_changeable, with_packages
from runner.settings import Home
from runner.urls import without_credentials


class Addition(Struct, frozen=True, kw_only=True):
    """A package that was added after a failed import.

    ``inside`` is the installed package that imports it without declaring it; None if the project's code imports it.
    """

    package: str
    inside: str | None = None

    @property
    def text(self) -> str:
        """The recorded text of the repair."""
        why = (
            f"'{self.inside}' imports it and does not declare it"
            if self.inside
            else "a run failed because it was missing"
        )
        return f"'{self.package}' is added: {why}"


def additions_path(home: Home, project: Sequence[str], spec: EnvironmentSpec) -> Path:
    """Return the path of the stored additions; it depends on the project's identity and its declared requirements."""
    python, lines = (spec.python, spec.requirement_lines) if isinstance(spec, PythonSpec) else (None, ("", ""))
    identity = (project, spec.kind, spec.file, python, [without_credentials(line) for line in lines])
    return home.root / "cache" / "added" / f"{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]}.json"


def read_additions(path: Path, *, repair: bool, add_missing: bool) -> tuple[Addition, ...]:
    """Return the stored additions that are allowed: for packages (``repair``) and for the code (``add_missing``)."""
    try:
        found = msgspec.json.decode(read_checksummed(path), type=tuple[Addition, ...])
    except (OSError, DamagedFileError, msgspec.DecodeError):
        return ()
    return tuple(one for one in found if add_missing or (repair and one.inside))


def write_additions(path: Path, additions: Sequence[Addition]) -> None:
    """Store additions together with the stored ones."""
    known = read_additions(path, repair=True, add_missing=True)
    write_checksummed(path, msgspec.json.encode(tuple(dict.fromkeys((*known, *additions)))))


def with_additions(spec: EnvironmentSpec, additions: Sequence[Addition]) -> EnvironmentSpec:
    """Return a spec with the added packages; a locked spec is returned unchanged."""
    if not additions or not is_changeable(spec):
        return spec
    return with_packages(spec, [one.package for one in additions], [one.text for one in additions])
