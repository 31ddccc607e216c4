"""Defines what a backend of environments does."""

from typing import Protocol

from runner.analysis.scripts import Scripts
from runner.environments.model import AnyRequest, BackendCapabilities, Lock, Prepared
from runner.environments.specs import AnySpec, EnvironmentSpec
from runner.model import EnvironmentRecord, ProjectFiles, Report


class EnvironmentBackend(Protocol):
    """Provides environments."""

    @property
    def name(self) -> str:
        """The name that users type and that is recorded."""
        ...

    @property
    def capabilities(self) -> BackendCapabilities:
        """The properties of the backend."""
        ...

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Return the reason why this backend can't provide a spec, None if it can; start and change nothing."""
        ...

    def repair(self, spec: AnySpec, scripts: Scripts, files: ProjectFiles) -> AnySpec:
        """Return a spec with repairs for known problems of old projects; unchanged if nothing is installed."""
        del scripts, files
        return spec

    def plan(self, request: AnyRequest) -> EnvironmentRecord:
        """Return the record of the environment, as far as known without building or resolving."""
        ...

    def lock(self, request: AnyRequest, report: Report) -> Lock | None:
        """Return the lock of a request, None if this backend resolves nothing."""
        ...

    def prepare(self, request: AnyRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the verified environment; build it if it is missing."""
        ...

    def with_other_interpreter(self, request: AnyRequest, report: Report) -> AnyRequest | None:
        """Return the request with another interpreter for a lock that can't be built, None if there is no other."""
        del request, report
        return None
