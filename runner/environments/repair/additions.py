"""Remembers which packages a run failed for want of, so that the next run of the project has them from its start."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.model import EnvironmentSpec, with_packages
from runner.environments.repair.repairs import is_changeable
from runner.settings import Home
from runner.urls import without_credentials


class Addition(Struct, frozen=True, kw_only=True):
    """A package that was added after a failed import, and that in words for a person.

    ``inside`` is the installed package that imports it without asking for it; None where the project's code does.
    """

    package: str
    inside: str | None = None

    @property
    def text(self) -> str:
        """What is recorded as the repair."""
        why = f"'{self.inside}' imports it and does not ask for it" if self.inside else "a run failed for want of it"
        return f"'{self.package}' is added: {why}"


def additions_path(home: Home, project: Sequence[str], spec: EnvironmentSpec) -> Path:
    """Return where additions are kept: by the words that identify the project, and by what it declares."""
    declared = (*spec.requirements, "", *spec.build_requirements, "", *spec.constraints)
    identity = (project, spec.kind, spec.file, spec.python, [without_credentials(line) for line in declared])
    return home.root / "cache" / "added" / f"{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]}.json"


def recall_additions(path: Path, *, repair: bool, add_missing: bool) -> tuple[Addition, ...]:
    """Return what was added before, as far as it may be: what packages lack, and what the project's own code lacks."""
    try:
        found = msgspec.json.decode(read_checksummed(path), type=tuple[Addition, ...])
    except (OSError, DamagedFileError, msgspec.DecodeError):
        return ()
    return tuple(one for one in found if add_missing or (repair and one.inside))


def remember_additions(path: Path, additions: Sequence[Addition]) -> None:
    """Keep additions beside those that are known."""
    known = recall_additions(path, repair=True, add_missing=True)
    write_checksummed(path, msgspec.json.encode(tuple(dict.fromkeys((*known, *additions)))))


def with_additions(spec: EnvironmentSpec, additions: Sequence[Addition]) -> EnvironmentSpec:
    """Return a spec that asks for the packages as well; a lock is taken as it is."""
    if not additions or not is_changeable(spec):
        return spec
    return with_packages(spec, [one.package for one in additions], [one.text for one in additions])
