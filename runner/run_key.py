"""Makes the key of a run: a digest of all that determines its results, so that equal runs are found."""

import hashlib
import os
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from runner.model import EnvironmentRecord
from runner.plan import Plan
from runner.provenance.machine import result_variables, with_recorded

VERSION = 1
"""The version of the document; any change of its content needs a new one, so that old keys match nothing."""


class CodeKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The code in a key: the ``tree`` of the repository, and the project folder in it.

    ``kind`` says what ``id`` identifies. For a run whose read files are known it can be ``files``: then ``id`` is the
    digest of their paths and contents. ``large`` are the SHA-256 of files that are too large for the tree.
    """

    kind: str = "tree"
    id: str
    subdirectory: str
    large: Mapping[str, str] = {}


class EnvironmentKey(Struct, frozen=True, kw_only=True):
    """The environment in a key; ``lock`` is the digest of the lock, else that of the image or installed packages."""

    manager: str
    lock: str
    python: str | None
    options: tuple[tuple[str, str | None], ...]


class KeyDocument(Struct, frozen=True, kw_only=True):
    """The document whose digest is the key of a run; ``docs/reference/record.md`` describes it."""

    version: int
    code: CodeKey
    entry_point: str
    command: str
    parameters: Mapping[str, str]
    variables: Mapping[str, str]
    environment: EnvironmentKey
    inputs: Mapping[str, str]
    platform: str
    repair: bool

    def canonical(self) -> bytes:
        """Return the document as JSON with sorted keys and without spaces."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def key(self) -> str:
        """The key: the version, and the SHA-256 of the canonical JSON in hex."""
        return f"{self.version}:{hashlib.sha256(self.canonical()).hexdigest()}"


def make_key(plan: Plan, environment: EnvironmentRecord, inputs: Mapping[str, str]) -> KeyDocument | None:
    """Return the key of a run; ``inputs`` are the SHA-256 of its inputs by name, those in the tree are left out.

    None means that the run has no key: it uses secrets, runs in place, continues another run, or its environment is
    not identified.
    """
    lock = environment.lock_digest or environment.digest
    if plan.masker.masks or plan.request.in_place or plan.request.resumes is not None or lock is None:
        return None
    code = plan.code
    recorded = plan.recorded_variables
    caller = os.environ if recorded is None else with_recorded(os.environ, recorded)
    system = os.uname()
    return KeyDocument(
        version=VERSION,
        code=CodeKey(
            id=code.tree,
            subdirectory=code.subdirectory,
            large={one.path: one.sha256 for one in code.large_files},
        ),
        entry_point=plan.entry_point.name,
        command=plan.entry_point.command,
        parameters={one.name: one.value for one in plan.parameters},
        variables={**result_variables(caller), **plan.variables.values, **plan.entry_point.env},
        environment=EnvironmentKey(
            manager=environment.manager,
            lock=lock,
            python=environment.python,
            options=plan.request.container_options,
        ),
        inputs={name: digest for name, digest in inputs.items() if plan.files.identity(name) is None},
        platform=f"{system.sysname}-{system.machine}",
        repair=plan.request.repair,
    )
