"""Finds the file that declares the environment: the one of the manifest's key, else known names in a fixed order."""

import re
from collections.abc import Mapping

from runner.manifest.container import is_empty, read_docker_env
from runner.manifest.document import Field, Kind, Node, text_of
from runner.manifest.faults import Faults, quoted
from runner.manifest.files import near_file, tidy_path
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles

KEYS = {
    "docker_env": EnvironmentKind.DOCKER_ENV,
    "python_env": EnvironmentKind.PYTHON_ENV,
    "conda_env": EnvironmentKind.CONDA_ENV,
}
"""The manifest's environment keys. More than one is refused, even without a value, as in MLflow."""

DISCOVERED = (
    ("python_env.yaml", (), EnvironmentKind.PYTHON_ENV),
    ("conda.yaml", (), EnvironmentKind.CONDA_ENV),
    ("pylock.toml", (), EnvironmentKind.PYLOCK),
    ("uv.lock", ("pyproject.toml",), EnvironmentKind.UV_LOCK),
    ("requirements.txt", (), EnvironmentKind.REQUIREMENTS),
)
"""Files that are searched in this order if there is no key, and the files required beside them."""

ENV_FILE_SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".txt", ".lock")


def declare_environment(fields: Mapping[str, Field], files: ProjectFiles, faults: Faults) -> EnvironmentDeclaration:
    """Return the environment that the top level of a manifest declares, else the first environment file found."""
    declared = named_environment(fields, files, faults)
    return discover_environment(files) if declared is None else declared


def named_environment(
    fields: Mapping[str, Field], files: ProjectFiles, faults: Faults
) -> EnvironmentDeclaration | None:
    """Return the environment that a key declares, or None if no key has a value."""
    present = sorted(set(KEYS) & set(fields))
    if len(present) > 1:
        faults.error(
            fields[present[1]].key.position,
            f"{quoted(present)} exclude each other",
            "keep one; a key without a value counts too",
        )
        return EnvironmentDeclaration()
    if not present or is_empty(fields[present[0]].value):
        return None
    key, value = present[0], fields[present[0]].value
    if KEYS[key] is EnvironmentKind.DOCKER_ENV:
        return EnvironmentDeclaration(kind=KEYS[key], container=read_docker_env(value, faults))
    return _named_file(key, value, files, faults)


def discover_environment(files: ProjectFiles) -> EnvironmentDeclaration:
    """Return the first existing environment file of those that need no key."""
    names = set(files.names())
    for name, beside, kind in DISCOVERED:
        if name in names and names.issuperset(beside) and not _is_lock_of_another(name, names, files):
            return EnvironmentDeclaration(kind=kind, path=name)
    return EnvironmentDeclaration()


def _is_lock_of_another(name: str, names: set[str], files: ProjectFiles) -> bool:
    """Return whether `proj lock` wrote a ``pylock.toml`` for an existing file; that file is the declaration."""
    if name != "pylock.toml":
        return False
    table = (files.read(name) or b"").partition(b"[tool.proj]")[2]
    spec = re.search(rb'^spec = "([^"]+)"', table, re.MULTILINE)
    return spec is not None and spec[1].decode("utf-8", "replace") in names


def declare_own_environment(node: Node, files: ProjectFiles, faults: Faults) -> EnvironmentDeclaration | None:
    """Return the environment of an entry point's own declaration, or None if the key has another meaning.

    It is the path of a file, or a mapping with one of MLflow's environment keys. ``environment: System`` and the like
    occur in files that MLflow runs, so what names no file is only warned of.
    """
    if node.kind is Kind.MAPPING and set(KEYS) & set(node.fields):
        return named_environment(node.fields, files, faults)
    if not node.is_text:
        faults.warning(node.position, "'environment' is neither the path of a file nor a mapping, so it is not used")
        return None
    path = tidy_path(node.source)
    if files.read(path) is not None:
        return EnvironmentDeclaration(kind=kind_of_file(path), path=path)
    if "/" in path or path.endswith(ENV_FILE_SUFFIXES):
        faults.error(
            node.position, f"'environment' names the file '{path}', which is not there", near_file(path, files)
        )
    else:
        faults.warning(node.position, f"'environment: {node.source}' names no file, so it is not used")
    return None


def kind_of_file(path: str) -> EnvironmentKind:
    """Return the kind of environment that a file declares, by its name."""
    name = path.rsplit("/", 1)[-1].lower()
    if name in ("devcontainer.json", ".devcontainer.json"):
        return EnvironmentKind.DOCKER_ENV
    if name.startswith("pylock") and name.endswith(".toml"):
        return EnvironmentKind.PYLOCK
    if name in ("uv.lock", "pyproject.toml"):
        return EnvironmentKind.UV_LOCK
    if name.endswith((".yaml", ".yml")):
        conda = "conda" in name or name.startswith("environment")
        return EnvironmentKind.CONDA_ENV if conda else EnvironmentKind.PYTHON_ENV
    return EnvironmentKind.REQUIREMENTS


def _named_file(key: str, node: Node, files: ProjectFiles, faults: Faults) -> EnvironmentDeclaration:
    if node.kind is not Kind.SCALAR:
        faults.error(
            node.position, f"'{key}' must be the path of a file", "write the environment to a file and name it"
        )
        return EnvironmentDeclaration(kind=KEYS[key])
    path = tidy_path(text_of(node))
    if files.read(path) is None:
        hint = near_file(path, files) or "paths are relative to the project folder and stay in the repository"
        if faults.needs_environment:
            hint = f"{hint}; 'proj run --repair' uses another file that says what the project needs"
        found = faults.error if faults.needs_environment else faults.warning
        found(node.position, f"'{key}' names the file '{path}', which is not there", hint)
    return EnvironmentDeclaration(kind=KEYS[key], path=path)
