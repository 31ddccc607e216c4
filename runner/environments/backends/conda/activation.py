"""Stores the variables that conda packages set when their environment is activated."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from runner.process import capture

SCRIPTS = "etc/conda/activate.d"
STORED = "conda-meta/activation"
SHELL_VARIABLES = frozenset(
    {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL", "HOME"}
)
ACTIVATE = 'for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$script"; done >/dev/null 2>&1; env -0'


def store_activation(prefix: Path) -> None:
    """Run the activation scripts of a new prefix once and store the variables that they set."""
    bash = shutil.which("bash")
    if not bash or not list((prefix / SCRIPTS).glob("*.sh")):
        return
    path = os.defpath.replace(f"{os.pathsep}.", "").strip(os.pathsep)
    before = {"PATH": f"{prefix}/bin{os.pathsep}{path}", "CONDA_PREFIX": str(prefix), "HOME": str(Path.home())}
    done = capture([bash, "--norc", "--noprofile", "-c", ACTIVATE], env=before, cwd=prefix, timeout=60)
    pairs = (item.split("=", 1) for item in done.stdout.decode("utf-8", "replace").split("\0") if "=" in item)
    variables = {name: value for name, value in pairs if name not in SHELL_VARIABLES}
    (prefix / STORED).write_bytes(msgspec.json.encode(variables))


def activation_variables(prefix: Path) -> Mapping[str, str]:
    """Return the stored variables of a prefix and the ``CONDA_…`` variables that identify it."""
    own = {"CONDA_PREFIX": str(prefix), "CONDA_DEFAULT_ENV": str(prefix), "CONDA_SHLVL": "1"}
    try:
        return {**msgspec.json.decode((prefix / STORED).read_bytes(), type=dict[str, str]), **own}
    except (OSError, msgspec.DecodeError):
        return own
