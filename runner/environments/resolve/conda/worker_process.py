"""Starts a module of proj in a process of its own that reads one task and writes one answer."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from runner.environments.resolve.uv_command import DROPPED
from runner.process import Completed, capture


def run_worker(module: str, task: bytes, environ: Mapping[str, str], cwd: Path) -> Completed:
    """Run a module with a task on standard input; ``cwd`` has no modules, because Python imports from it first."""
    own = {name: value for name, value in environ.items() if name not in DROPPED}
    # The worker must import the same packages as this process; warnings of a library are not the user's.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    argv = [sys.executable, "-W", "ignore", "-m", module]
    return capture(argv, cwd=cwd, env={**own, "PYTHONPATH": path, "RUST_BACKTRACE": "0"}, stdin=task)
