"""Repairs conda files for the `conda` backend: packages are added, nothing of the file is changed."""

import hashlib

from msgspec import structs

from runner.analysis.scripts import Scripts
from runner.environments.declare.conda.files import is_conda_lock, this_platform
from runner.environments.declare.conda.mapping import SPEC
from runner.environments.declare.conda.names import PYTHON_NAMES
from runner.environments.declare.conda.spec import read_conda_spec
from runner.environments.repair.repairs import names_of, with_mlflow
from runner.environments.resolve.conda.solve import lock_beside
from runner.environments.specs import AnySpec, CondaFile, CondaFileSpec
from runner.model import ProjectFiles


def repair_conda(spec: AnySpec, scripts: Scripts, files: ProjectFiles) -> AnySpec:
    """Return a spec with ``mlflow`` added if only the code imports it; a lock is used unchanged.

    Raises:
        EnvironmentSetupError: the file can't be read.
    """
    if not isinstance(spec, CondaFileSpec):
        return spec
    platform = this_platform()
    lock = spec.conda if is_conda_lock(spec.conda.text) else lock_beside(files, spec.conda, platform)
    if lock:
        return structs.replace(spec, locked_by=hashlib.sha256(lock.text.encode()).hexdigest())
    return with_mlflow(spec, _package_names(spec.conda, files, platform), scripts, files)


def _package_names(file: CondaFile, files: ProjectFiles, platform: str) -> frozenset[str]:
    """Return the packages of a file, by their names on the Python index."""
    declared = read_conda_spec(file, files, platform)
    found = (SPEC.fullmatch(text) for text in declared.specs)
    return names_of(declared.pip) | {python_name(match["name"]) for match in found if match}


def python_name(conda: str) -> str:
    """Return the name of a conda package on the Python index."""
    return PYTHON_NAMES.get(conda.lower(), conda.lower()).partition(" ; ")[0]
