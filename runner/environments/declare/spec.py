"""Reads the file that declares an environment, of any kind."""

import re
from typing import TYPE_CHECKING

from msgspec import structs

from runner.base.foreign_text import decode_text
from runner.base.lazy import LazyModule
from runner.environments.declare.conda.files import conda_lock_spec, is_conda_lock, select_lines, this_platform
from runner.environments.declare.positions import Document, parse
from runner.environments.declare.project_lock import with_project_lock
from runner.environments.declare.python_env import read_python_env
from runner.environments.declare.requirements import RequirementReader
from runner.environments.specs import AnySpec, CondaFile, CondaFileSpec, NoSpec, PythonSpec, Refusal, collect, specify
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles

if TYPE_CHECKING:
    from runner.environments.declare import pylock
    from runner.environments.declare.conda import mapping as conda
    from runner.environments.declare.containers import spec as container_spec
else:
    conda = LazyModule("runner.environments.declare.conda.mapping")
    container_spec = LazyModule("runner.environments.declare.containers.spec")
    pylock = LazyModule("runner.environments.declare.pylock")

CONDA_KEYS = frozenset({"channels", "prefix"})
PYTHON_ENV_KEYS = frozenset({"python", "build_dependencies"})


def read_spec(declaration: EnvironmentDeclaration, files: ProjectFiles) -> AnySpec:
    """Return the spec in the declared file, with the lock beside it.

    Raises:
        EnvironmentSetupError: the file is missing, can't be read, or has faults; the message lists all of them.
    """
    return with_project_lock(read_declared(declaration, files), files)


def read_declared(declaration: EnvironmentDeclaration, files: ProjectFiles) -> AnySpec:
    """Return the spec in the declared file, without the lock beside it.

    Raises:
        EnvironmentSetupError: the file is missing, can't be read, or has faults; the message lists all of them.
    """
    kind, path = declaration.kind, declaration.path
    if kind is EnvironmentKind.DOCKER_ENV:
        return container_spec.read_container(declaration, files)
    if kind is EnvironmentKind.NONE or path is None:
        return NoSpec(kind=kind, file=path, container=container_spec.find_devcontainer(files))
    content = files.read(path)
    if content is None:
        raise EnvironmentSetupError(f"the environment file '{path}' does not exist", hint=_hint(path, files))
    if kind in (EnvironmentKind.PYTHON_ENV, EnvironmentKind.CONDA_ENV):
        return _read_yaml(kind, path, content, files)
    if kind is EnvironmentKind.REQUIREMENTS:
        return _read_requirements(path, files)
    read = pylock.read_pylock if kind is EnvironmentKind.PYLOCK else pylock.read_uv_lock
    return read(path, content, files)


def _read_yaml(kind: EnvironmentKind, path: str, content: bytes, files: ProjectFiles) -> PythonSpec:
    """Read a YAML file; its content decides the kind, because projects mix up the two kinds."""
    text = decode_text(content)
    if is_conda_lock(text):
        return conda_lock_spec(path, text)
    document = parse(path, select_lines(text, this_platform()).encode())
    keys = set(document.keys)
    looks_conda = bool(keys & CONDA_KEYS) or any(item.is_nested for item in document.items("dependencies", []))
    looks_python = bool(keys & PYTHON_ENV_KEYS) and not looks_conda
    is_conda = looks_conda if kind is EnvironmentKind.PYTHON_ENV else not looks_python
    spec = _read_conda(document, text, files) if is_conda else read_python_env(document, files)
    if spec.kind is kind:
        return spec
    return structs.replace(
        spec, notices=(f"{document.file} is a {spec.kind.value} file and is read as one", *spec.notices)
    )


def _read_conda(document: Document, text: str, files: ProjectFiles) -> CondaFileSpec:
    """Return the file and its mapping to the Python index, or the reason why it can't be mapped."""
    file = CondaFile(path=document.file, text=text)
    try:
        return conda.read_conda(document, file, files)
    except EnvironmentSetupError as error:
        refusal = Refusal(message=error.message, context=error.context, hint=error.hint)
        return CondaFileSpec(file=document.file, conda=file, refusal=refusal)


def _read_requirements(path: str, files: ProjectFiles) -> PythonSpec:
    lines = collect()
    RequirementReader(files, lines).read_file(path)
    return specify(EnvironmentKind.REQUIREMENTS, path, lines, python=_python_beside(path, files))


def _python_beside(path: str, files: ProjectFiles) -> str | None:
    """Return the version in a ``.python-version`` or ``runtime.txt`` beside a requirements file, or None."""
    folder = path.rpartition("/")[0]
    for name, pattern in ((".python-version", r"\s*(\d+(?:\.\d+)*)\s*"), ("runtime.txt", r"\s*python-(\d[\d.]*)\s*")):
        content = files.read(f"{folder}/{name}" if folder else name) or b""
        if match := re.fullmatch(pattern, content.decode("utf-8", "replace")):
            return match[1]
    return None


def _hint(path: str, files: ProjectFiles) -> str | None:
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0].lower()
    near = [other for other in files.names(folder) if other.lower().rpartition(".")[0] == stem]
    return f"There is '{near[0]}' beside it." if near else None
