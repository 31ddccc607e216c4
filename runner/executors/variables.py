"""The environment variables of a command: the user's, without what would lead it away from what is recorded."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Which interpreter and which packages: the prefix decides, not the shell that proj was called from.
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
# Which repository; set in git's hooks. The list is that of `git rev-parse --local-env-vars` without configuration.
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
# How bash behaves: a start-up file may change PATH, CDPATH makes `cd` print and go elsewhere.
_SHELL = ("BASH_ENV", "ENV", "CDPATH", "SHELLOPTS", "BASHOPTS", "OLDPWD")
# Which run: the one that proj has opened. A name beside an id makes a nested `mlflow run` refuse.
_RUN = ("MLFLOW_RUN_ID", "MLFLOW_RUN_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "PROJ_METRICS")
_LEADING_AWAY = frozenset((*_PYTHON, *_GIT, *_SHELL, *_RUN))
_PREFIXES_LEADING_AWAY = ("CONDA_", "UV_INTERNAL__")
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
        cwd: where the command will run.
        path_entries: folders of programs of the prefix; they come first on PATH.
        variables: what the environment and the tracking set.
        own: ``env`` of the entry point; it wins over everything.
    """
    added = dict(variables or {})
    kept = {name: value for name, value in base.items() if not _leads_away(name)}
    if added.get(_TRACKING_URI) != base.get(_TRACKING_URI):
        # Credentials of another server; a user name would even win over the token of ours.
        kept = {name: value for name, value in kept.items() if not name.startswith(_TRACKING)}
    # The same results each time, and output as it comes though it goes through a pipe.
    chosen = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **kept}
    fixed = {"PYTHONNOUSERSITE": "1", "PWD": str(cwd)}
    path = os.pathsep.join([*map(str, path_entries), base.get("PATH") or os.defpath])
    return {**chosen, "PATH": path, **fixed, **added, **(own or {})}


def _leads_away(name: str) -> bool:
    return name in _LEADING_AWAY or name.startswith(_PREFIXES_LEADING_AWAY)
