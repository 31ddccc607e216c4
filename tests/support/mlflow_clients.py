"""Real clients of MLflow, each in its own environment, built once per machine from the locks in ``tests/clients``."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from platformdirs import user_cache_path
from uv import find_uv_bin

from runner.base.locks import locked
from runner.environments.interpreters.interpreters import discover
from runner.environments.model import Interpreter
from tests.conftest import unavailable

CLIENTS = Path(__file__).parents[1] / "clients"
# The clean room takes such variables away from tests, so this is read before.
CACHE = Path(os.environ.get("PROJ_TEST_CACHE") or user_cache_path("proj-tests", appauthor=False))

LINES = {
    "1.30.1": (9, 10),
    "2.0.1": (9, 10),
    "2.9.2": (10, 11),
    "2.22.5": (11, 12),
    "3.1.4": (11, 12),
    "skinny-3.17.2": (11, 12, 13),
    "3.17.2": (11, 12, 13),
}
"""The lines of Python 3 that the lock of each client fits, the preferred one first.

The newest is the whole of mlflow, with its server; the others are mlflow-skinny, which is the same client, with what
the scripts need beside it.
"""

SERVER_OF_2 = "server-2.22.5"
"""mlflow-skinny with what its server needs: a third of the whole package."""

VERSIONS = tuple(LINES)
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]

FEWER = (OLDEST, "2.0.1", "2.22.5", NEWEST)
"""For tests of what does not change from one minor version to the next: a client takes seconds to start."""


def client_python(version: str) -> Path:
    """Return the Python of an environment with this client, which is built when it is not there.

    The test is skipped on a machine without a suitable Python.
    """
    interpreter = _interpreter(version)
    lock = CLIENTS / f"mlflow-{version}.txt"
    digest = hashlib.sha256(lock.read_bytes() + interpreter.version.encode() + interpreter.path.encode()).hexdigest()
    prefix = CACHE / f"mlflow-{version}-{digest[:12]}"
    with locked(CACHE / f"{prefix.name}.lock"):
        if not (prefix / "complete").exists():
            _build(prefix, interpreter, lock)
    return prefix / "bin" / "python"


def _interpreter(version: str) -> Interpreter:
    found = {item.line: item for item in discover(CACHE / "interpreters.json") if item.implementation == "cpython"}
    wanted = {**LINES, SERVER_OF_2: (11, 12)}[version]
    for minor in wanted:
        if (3, minor) in found:
            return found[3, minor]
    lines = " or ".join(f"3.{minor}" for minor in wanted)
    raise unavailable(f"mlflow {version} needs Python {lines}, which this machine does not have")


def _build(prefix: Path, interpreter: Interpreter, lock: Path) -> None:
    shutil.rmtree(prefix, ignore_errors=True)
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    for words in (
        [find_uv_bin(), "venv", "--quiet", "--python", interpreter.path, prefix],
        [find_uv_bin(), "pip", "sync", "--quiet", "--require-hashes", "--python", prefix / "bin" / "python", lock],
    ):
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (prefix / "complete").touch()
