"""Reads and writes ``conda-lock.yml`` in the process of the tests, because a worker for each text takes seconds."""

import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

from runner.environments.resolve.conda.lockfile import CondaLock, read_conda_lock


@cache
def load_worker() -> Any:
    """Import the worker's module without what the import of conda-lock does to the process."""
    with warnings.catch_warnings(), patch.dict(os.environ), patch.object(sys, "path", list(sys.path)):
        warnings.simplefilter("ignore")
        return import_module("runner.environments.resolve.conda.lock_worker")


def read_lock(text: str, path: str, platform: str) -> CondaLock:
    return read_conda_lock(text, path, platform, load_worker().read_file)


def write_lock(locks: Sequence[CondaLock], sources: Sequence[str], *, with_addresses: bool) -> str:
    text: str = load_worker().write_file(locks, sources, with_addresses=with_addresses)
    return text
