"""Take turns, keep medians, print ratios."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One line of a table: what was measured, its seconds or ``unit``, and those of what it is compared with."""

    what: str
    seconds: float
    against: str
    limit: float
    unit: str = "s"

    def __str__(self) -> str:
        ratio = self.seconds / self.limit if self.limit else float("nan")
        extra = self.seconds - self.limit
        peer = f"{self.against} ({self.limit:.3f} {self.unit}, {extra:+.3f} {self.unit})"
        return f"{self.what:<58} {self.seconds:8.3f} {self.unit}   {ratio:6.2f} x {peer}"


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int = 7) -> tuple[float, float]:
    """Return the median seconds of two pieces of work done A B A B …, after one of each that is not counted."""
    first()
    second()
    pairs = [(seconds_of(first), seconds_of(second)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def command(words: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> Callable[[], object]:
    """Return a call that runs a command to its end, without output, and fails when the command does."""

    def run() -> None:
        done = subprocess.run(words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{words} failed: {done.stderr.decode()[-2000:]}")

    return run


def proj(*words: str) -> list[str]:
    """Return the words that start proj with this interpreter."""
    return [sys.executable, "-m", "runner.cli.main", *words]
