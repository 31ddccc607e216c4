"""Reads and writes ``conda-lock.yml`` in the process of the tests, because a worker for each text takes seconds."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from runner.environments.resolve.conda.lock_process import LockTask
from runner.environments.resolve.conda.lockfile import CondaLock, read_conda_lock
from runner.process import Completed


@cache
def load_worker() -> Any:
    """Import the worker's module without what the import of conda-lock does to the process."""
    with warnings.catch_warnings(), patch.dict(os.environ), patch.object(sys, "path", list(sys.path)):
        warnings.simplefilter("ignore")
        return import_module("runner.environments.resolve.conda.lock_worker")


def read_lock(text: str, path: str, platform: str) -> CondaLock:
    return read_conda_lock(text, path, platform, load_worker().read_file)


def answer_here(module: str, task: bytes, environ: Mapping[str, str], cwd: Path) -> Completed:
    """Do in this process what the worker does; takes the place of `run_worker`."""
    del environ, cwd
    answer = load_worker().answer(msgspec.msgpack.decode(task, type=LockTask))
    return Completed(argv=(module,), exit_code=0, stdout=msgspec.msgpack.encode(answer), stderr=b"")


def write_lock(locks: Sequence[CondaLock], sources: Sequence[str], *, with_addresses: bool) -> str:
    text: str = load_worker().write_file(locks, sources, with_addresses=with_addresses)
    return text
