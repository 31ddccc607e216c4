"""Starts the comparison of two files of arrays, tables or pixels in a process of its own; see the extra ``compare``."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runner.errors import ExecutionError
from runner.process import capture
from runner.reproduction.tolerance import Allowance
from runner.reproduction.verdict import Finding, Verdict

ARRAY_FORMATS = frozenset(
    (".npy", ".npz", ".parquet", ".feather", ".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp")
)
TIME_LIMIT = 120.0
"""Seconds that one comparison may take."""
NO_LIBRARY = 3
"""Exit code of the worker if a library is missing."""


def compare_array_files(suffix: str, original: bytes, reproduced: bytes, rules: Sequence[Allowance]) -> Finding | None:
    """Compare two files with different bytes; None if one of them does not have the format that its name says."""
    # The worker imports what this process does. It starts in an empty folder, because Python imports from there first.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("original", "reproduced")]
        for file, content in zip(files, (original, reproduced), strict=True):
            file.write_bytes(content)
        inside = Path(folder, "empty")
        inside.mkdir()
        try:
            done = capture(
                [sys.executable, "-m", "runner.reproduction.array_worker", suffix, *files],
                cwd=inside,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
                stdin=msgspec.json.encode(rules),
                timeout=TIME_LIMIT,
            )
        except ExecutionError as error:
            return _unknown(error.message)
    if done.exit_code == NO_LIBRARY:
        return _unknown("bytes differ; the extra `proj-runner[compare]` compares their meaning")
    return None if done.exit_code else msgspec.json.decode(done.stdout, type=Finding)


def _unknown(detail: str) -> Finding:
    return Finding(verdict=Verdict.DIFFERENT, how="bytes", detail=detail)
