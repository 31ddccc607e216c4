"""Infers an environment if none is declared or the declared one does not exist.

Sources in order of reliability: files beside and above the project, Dockerfiles, imports. Nothing is executed.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator

from msgspec import structs

from runner.analysis.scripts import Scripts, above, read_all
from runner.base.foreign_text import decode_text
from runner.environments.declare.containers.dockerfiles import find_dockerfiles, read_dockerfile
from runner.environments.declare.metadata_files import READERS, read_metadata
from runner.environments.declare.spec import read_spec
from runner.environments.repair.import_names import provides
from runner.environments.repair.repairs import names_of, wanted_packages
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles

YAML_NAME = re.compile(r".*(env|conda|requirement|depend).*\.ya?ml", re.IGNORECASE)
TEXT_NAME = re.compile(r"(conda[-_]?)?requirements?([-_.]?\w+)*\.(txt|in)", re.IGNORECASE)
NOT_FOR_RUNS = re.compile(r"dev|test|doc|lint|build|ci\b|conda", re.IGNORECASE)
DEPENDENCIES = re.compile(r"^dependencies\s*:", re.MULTILINE)
USUAL = ("requirements.txt", "environment.yml", "environment.yaml", "conda.yml", "python_env.yml")
LOCKS = {"pylock.toml": EnvironmentKind.PYLOCK, "uv.lock": EnvironmentKind.UV_LOCK}
REQUIREMENTS_FOLDER = "requirements/"
SHARE_OF_IMPORTS = 0.5
"""Share of the code's imports that a file outside the project folder must provide to be used."""


def infer_spec(declaration: EnvironmentDeclaration, files: ProjectFiles, scripts: Scripts, why: str) -> PythonSpec:
    """Return the most likely spec of a project, or an empty one; ``why`` is the fault of the declared environment."""
    scripts = scripts if scripts.found else read_all(files)
    python = _python_of_docker(files) if declaration.kind is EnvironmentKind.DOCKER_ENV else None
    for spec, source in _candidates(declaration, files, scripts):
        repair = f"{why}; {source}"
        return structs.replace(spec, python=spec.python or python, repairs=(*spec.repairs, repair))
    if declaration.kind is not EnvironmentKind.NONE:
        return PythonSpec(repairs=(f"{why}, and no file declares what the code needs: no package is installed",))
    return PythonSpec(notices=(f"{why}, and no file declares what the code needs",) if why else ())


def _candidates(
    declaration: EnvironmentDeclaration, files: ProjectFiles, scripts: Scripts
) -> Iterator[tuple[PythonSpec, str]]:
    """Yield readable specs, each with a text about its source."""
    declared = declaration.path or ""
    dockerfiles = find_dockerfiles(files)
    if declaration.kind is EnvironmentKind.DOCKER_ENV:
        # The image was most likely built from the Dockerfile beside the manifest.
        beside = [path for path in dockerfiles if not path.startswith("..")]
        yield from _of_dockerfiles(beside, files)
        dockerfiles = tuple(path for path in dockerfiles if path not in beside)
    folders = dict.fromkeys((posixpath.dirname(declared), *above(files)))
    for number, folder in enumerate(folders):
        for path in _beside(folder, posixpath.basename(declared), files):
            spec = _read(path, files)
            if spec and (number == 0 or folder == "" or _is_of_the_code(spec, scripts)):
                yield spec, _describe_source(path, spec)
    yield from _of_dockerfiles(dockerfiles, files)
    packages = [package for _, package, _ in wanted_packages(scripts) if package]
    if packages:
        names = tuple(dict.fromkeys(packages))
        yield PythonSpec(requirements=names), f"the packages that the code imports are used: {', '.join(names)}"


def _of_dockerfiles(paths: Iterable[str], files: ProjectFiles) -> Iterator[tuple[PythonSpec, str]]:
    for path in paths:
        spec = read_dockerfile(path, files)
        if not spec.is_empty:
            yield spec, f"the packages that '{posixpath.normpath(path)}' installs are used"


def _beside(folder: str, wanted: str, files: ProjectFiles) -> Iterator[str]:
    """Yield the files of a folder that may declare an environment, the most likely first."""
    names = files.names(folder)
    stem = wanted.rpartition(".")[0].lower()

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        low = name.lower()
        is_near = bool(stem) and low.rpartition(".")[0].replace("-", "_") == stem.replace("-", "_")
        is_aside = bool(NOT_FOR_RUNS.search(low)) and not YAML_NAME.fullmatch(name)
        return (not is_near, is_aside, low not in USUAL, low)

    yaml = [name for name in names if YAML_NAME.fullmatch(name) and name != wanted]
    locks = [name for name in LOCKS if name in names and name != wanted]
    text = [name for name in names if TEXT_NAME.fullmatch(name) and name != wanted]
    for name in (*sorted(yaml, key=rank), *locks, *sorted(text, key=rank)):
        yield posixpath.join(folder, name)
    if REQUIREMENTS_FOLDER in names:
        inside = files.names(posixpath.join(folder, REQUIREMENTS_FOLDER.rstrip("/")))
        for name in sorted((name for name in inside if name.endswith(".txt")), key=rank):
            yield posixpath.join(folder, REQUIREMENTS_FOLDER, name)
    yield from (posixpath.join(folder, name) for name in READERS if name in names)


def _describe_source(path: str, spec: PythonSpec) -> str:
    if posixpath.basename(path) not in READERS:
        return f"'{posixpath.normpath(path)}' is used"
    locked = ", in the versions of the lock beside it" if spec.constraints else ""
    return f"the requirements in '{posixpath.normpath(path)}' are used{locked}"


def _read(path: str, files: ProjectFiles) -> PythonSpec | None:
    """Return the spec in a file, or None if the file has another purpose or declares nothing."""
    if posixpath.basename(path) in READERS:
        return read_metadata(path, files)
    is_yaml = path.lower().endswith((".yml", ".yaml"))
    if is_yaml and not DEPENDENCIES.search(decode_text(files.read(path) or b"")):
        return None
    usual = EnvironmentKind.CONDA_ENV if is_yaml else EnvironmentKind.REQUIREMENTS
    kind = LOCKS.get(posixpath.basename(path), usual)
    try:
        spec = read_spec(EnvironmentDeclaration(kind=kind, path=path), files)
    except EnvironmentSetupError:
        return None
    return spec if isinstance(spec, PythonSpec) and not (spec.is_empty or spec.refusal) else None


def _is_of_the_code(spec: PythonSpec, scripts: Scripts) -> bool:
    """Return whether a spec from outside the project folder provides most of the code's imports."""
    wanted = [module.partition(".")[0] for module, package, _ in wanted_packages(scripts) if package]
    names = names_of(spec)
    had = [module for module in wanted if any(provides(name, module) for name in names)]
    return len(had) >= SHARE_OF_IMPORTS * len(wanted)


def _python_of_docker(files: ProjectFiles) -> str | None:
    specs = (read_dockerfile(path, files) for path in find_dockerfiles(files))
    return next((spec.python for spec in specs if spec.python), None)
