"""Registers the backends that provide environments, by the names that users type."""

import importlib
from collections.abc import Mapping
from typing import cast

from runner.base.suggestions import nearest
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.backends.uv import UvBackend
from runner.environments.backends.virtualenv import VirtualenvBackend
from runner.environments.model import BackendCapabilities
from runner.environments.specs import CondaFileSpec, EnvironmentSpec, ImageSpec
from runner.errors import EnvironmentSetupError, UsageError


class LazyBackend:
    """A backend whose module is imported at its first use, because most runs do not need it."""

    def __init__(self, name: str, class_path: str, capabilities: BackendCapabilities) -> None:
        self.name, self.capabilities = name, capabilities
        self._module, _, self._class_name = class_path.rpartition(".")

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the backend."""
        return getattr(self.load(), name)

    def load(self) -> EnvironmentBackend:
        """Import the module and return the backend."""
        backend: EnvironmentBackend = getattr(importlib.import_module(self._module), self._class_name)()
        return backend


def _lazy(name: str, class_path: str, capabilities: BackendCapabilities) -> EnvironmentBackend:
    return cast("EnvironmentBackend", LazyBackend(name, class_path, capabilities))


BACKENDS: Mapping[str, EnvironmentBackend] = {
    "uv": UvBackend(),
    "virtualenv": VirtualenvBackend(),
    "local": _lazy("local", f"{__package__}.local.LocalBackend", BackendCapabilities()),
    "conda": _lazy("conda", f"{__package__}.conda.backend.CondaBackend", BackendCapabilities(builds_prefixes=True)),
    "container": _lazy(
        "container", f"{__package__}.containers.backend.ContainerBackend", BackendCapabilities(provides_images=True)
    ),
}
"""All backends; of those that can provide a spec, the first is the default one."""


def backend_for(name: str | None, spec: EnvironmentSpec) -> EnvironmentBackend:
    """Return the backend with a name, or the default one for a spec.

    Raises:
        UsageError: there is no backend with this name.
    """
    if name is None:
        return next(one for one in BACKENDS.values() if one.capabilities.provides_images is isinstance(spec, ImageSpec))
    if name in BACKENDS:
        return BACKENDS[name]
    near = nearest(name, BACKENDS)
    hint = f"Did you mean '{near}'?" if near else None
    raise UsageError(f"Unknown environment manager '{name}'; known are {', '.join(BACKENDS)}", hint=hint)


def installs_packages(name: str | None) -> bool:
    """Return whether a backend installs packages; None is the default one, an unknown name is refused later."""
    return name is None or name not in BACKENDS or BACKENDS[name].capabilities.builds_prefixes


def notices_for(backend: EnvironmentBackend, spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the notices about a spec that concern the backend."""
    mapping = spec.mapping if isinstance(spec, CondaFileSpec) and backend.capabilities.maps_conda_files else ()
    return spec.notices + mapping


def choose_backend(name: str | None, spec: EnvironmentSpec) -> EnvironmentBackend:
    """Return the backend with a name, or the default one for a spec.

    Raises:
        UsageError: there is no backend with this name.
        EnvironmentSetupError: the backend can't provide the spec.
    """
    backend = backend_for(name, spec)
    reason = backend.why_not(spec)
    if reason and spec.refusal and reason == spec.refusal.message:
        raise EnvironmentSetupError(reason, context=spec.refusal.context, hint=spec.refusal.hint)
    if reason:
        able = [other for other, candidate in BACKENDS.items() if candidate.why_not(spec) is None]
        raise EnvironmentSetupError(reason, context=spec.file, hint=f"Use '--env-manager' with {' or '.join(able)}.")
    return backend
