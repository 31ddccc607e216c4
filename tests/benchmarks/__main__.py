"""``python -m tests.benchmarks [NAME…]``: all measurements or those named, as ratios against a peer in the same run."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import environments, runs, servers, trees
from tests.benchmarks.timing import Row

MEASUREMENTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "start": runs.start,
    "run": runs.run,
    "inputs": runs.inputs,
    "trace": runs.trace,
    "reproduce": runs.reproduce,
    "peers": runs.peers,
    "snapshot": trees.snapshot,
    "layout": trees.layout,
    "large": trees.large,
    "lock": environments.locking,
    "environment": environments.environment,
    "disk": environments.disk,
    "server": servers.server,
    "logging": servers.logging,
    "search": servers.search,
    "reading": runs.reading,
    "artifacts": servers.artifacts,
}


def main(names: list[str]) -> None:
    """Print the rows of the named measurements, each in a home of its own."""
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        sys.exit(f"there is no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # this checkout, whatever is installed
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed proj has bytecode; without it each start compiles
    for name in names or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="proj-benchmark-") as workdir:
            os.environ["PROJ_HOME"] = f"{workdir}/home"
            for row in MEASUREMENTS[name](Path(workdir)):
                print(f"{name:<12} {row}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
