"""The members that provide environments, by the name that the user types."""

import importlib
from collections.abc import Mapping
from typing import Protocol

from runner.environments.backends.python_backend import PythonBackend
from runner.environments.backends.uv import UvBackend
from runner.environments.backends.virtualenv import VirtualenvBackend
from runner.environments.model import EnvironmentRequest, EnvironmentSpec, Lock, Prepared
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import EnvironmentKind, EnvironmentRecord, Report


class EnvironmentBackend(Protocol):
    """Something that provides environments."""

    @property
    def name(self) -> str:
        """The name that the user types and that is recorded."""
        ...

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Say why this spec can't be had, None when it can; nothing is started or changed."""
        ...

    def plan(self, request: EnvironmentRequest) -> EnvironmentRecord:
        """Return what is known of the environment without building or resolving anything."""
        ...

    def lock(self, request: EnvironmentRequest, report: Report) -> Lock | None:
        """Return what the request is resolved to, None where nothing is resolved."""
        ...

    def prepare(self, request: EnvironmentRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the environment, proven and ready; build it when it is not there."""
        ...


class LazyBackend:
    """A member whose code is loaded when it is first asked for something: most runs never do."""

    def __init__(self, name: str, module: str, member: str) -> None:
        self.name = name
        self._module, self._member = module, member

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Say why this spec can't be had, None when it can."""
        return self.load().why_not(spec)

    def plan(self, request: EnvironmentRequest) -> EnvironmentRecord:
        """Return what is known of the environment without building or resolving anything."""
        return self.load().plan(request)

    def lock(self, request: EnvironmentRequest, report: Report) -> Lock | None:
        """Return what the request is resolved to."""
        return self.load().lock(request, report)

    def prepare(self, request: EnvironmentRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the environment, proven and ready."""
        return self.load().prepare(request, lock, report)

    def load(self) -> EnvironmentBackend:
        """Return the member itself."""
        member: EnvironmentBackend = getattr(importlib.import_module(self._module), self._member)()
        return member


DEFAULT = "uv"
BACKENDS: Mapping[str, EnvironmentBackend] = {
    "uv": UvBackend(),
    "virtualenv": VirtualenvBackend(),
    "local": LazyBackend("local", "runner.environments.backends.local", "LocalBackend"),
    "conda": LazyBackend("conda", "runner.environments.backends.conda.backend", "CondaBackend"),
    "container": LazyBackend("container", "runner.environments.backends.containers.backend", "ContainerBackend"),
}


def notices_for(backend: EnvironmentBackend, spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return what the user should know of a spec before a member takes it."""
    return spec.notices + spec.mapping if isinstance(backend, PythonBackend) else spec.notices


def provides_images(backend: EnvironmentBackend) -> bool:
    """Say whether commands run in an image that the member provides."""
    return backend is BACKENDS["container"]


def choose_backend(name: str | None, spec: EnvironmentSpec) -> EnvironmentBackend:
    """Return the member of a name, the usual one where none is asked for.

    Raises:
        UsageError: there is no member of this name.
        EnvironmentSetupError: the member can't provide what the spec asks for.
    """
    if name is not None and name not in BACKENDS:
        from difflib import get_close_matches

        near = get_close_matches(name, BACKENDS, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else None
        raise UsageError(f"There is no environment manager '{name}'; there are {', '.join(BACKENDS)}", hint=hint)
    backend = BACKENDS[name or ("container" if spec.kind is EnvironmentKind.DOCKER_ENV else DEFAULT)]
    reason = backend.why_not(spec)
    if reason and spec.refusal and reason == spec.refusal.message:
        raise EnvironmentSetupError(reason, context=spec.refusal.context, hint=spec.refusal.hint)
    if reason:
        able = [other for other, member in BACKENDS.items() if member.why_not(spec) is None]
        raise EnvironmentSetupError(reason, context=spec.file, hint=f"'--env-manager' can be {' or '.join(able)} here.")
    return backend
