"""Builds the environment variables of a command: the caller's, without those that would bypass what is recorded."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Interpreter and packages: the prefix decides, not the shell that started proj.
_PYTHON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONEXECUTABLE",
    "PYTHONPLATLIBDIR",
    "PYTHONSAFEPATH",
    "PYTHONOPTIMIZE",
    "PYTHONINSPECT",
    "__PYVENV_LAUNCHER__",
    "VIRTUAL_ENV",
    "VIRTUAL_ENV_PROMPT",
    "_CE_CONDA",
    "_CE_M",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "UV_PYTHON",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_RUN_RECURSION_DEPTH",
)
# The repository: git sets these for its hooks. From `git rev-parse --local-env-vars`, without those of configuration.
_GIT = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_NAMESPACE",
)
# Bash: a startup file may change PATH; CDPATH makes `cd` print and use other folders.
_SHELL = ("BASH_ENV", "ENV", "CDPATH", "SHELLOPTS", "BASHOPTS", "OLDPWD")
# The run: proj sets its own. With both a name and an id a nested `mlflow run` refuses to start.
_RUN = ("MLFLOW_RUN_ID", "MLFLOW_RUN_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "PROJ_METRICS")
_REMOVED = frozenset((*_PYTHON, *_GIT, *_SHELL, *_RUN))
_REMOVED_PREFIXES = ("CONDA_", "UV_INTERNAL__")
_TRACKING = "MLFLOW_TRACKING_"
_TRACKING_URI = f"{_TRACKING}URI"


def child_environment(
    base: Mapping[str, str],
    *,
    cwd: Path,
    path_entries: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
    own: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of a command.

    Args:
        base: the caller's environment.
        cwd: the folder in which the command runs.
        path_entries: the prefix's folders of programs; they come first on PATH.
        variables: the variables of the environment and of tracking.
        own: ``env`` of the entry point; it overrides everything else.
    """
    added = dict(variables or {})
    kept = {name: value for name, value in base.items() if not _is_removed(name)}
    if added.get(_TRACKING_URI) != base.get(_TRACKING_URI):
        # Credentials of another server. Clients would even prefer a user name to the token of the run's server.
        kept = {name: value for name, value in kept.items() if not name.startswith(_TRACKING)}
    # A fixed hash seed gives the same results each time; unbuffered output appears at once although it is a pipe.
    chosen = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **kept}
    fixed = {"PYTHONNOUSERSITE": "1", "PWD": str(cwd)}
    path = os.pathsep.join([*map(str, path_entries), base.get("PATH") or os.defpath])
    return {**chosen, "PATH": path, **fixed, **added, **(own or {})}


def _is_removed(name: str) -> bool:
    return name in _REMOVED or name.startswith(_REMOVED_PREFIXES)
