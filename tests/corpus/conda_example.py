"""``python -m tests.corpus.conda_example --mirror DIR``: a public project by the conda member, from a local channel.

The project is mlflow/mlflow-example; its ``defaults`` are a channel made here: wheels that the index had on the day of
the commit, packed as packages of conda.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from uv import find_uv_bin

from runner.environments.interpreters.interpreters import discover
from runner.environments.model import Interpreter
from tests.corpus.trial import LEAKS, ROOT
from tests.support.conda_channel import Package, interpreter, make_channel, platform

LINE = (3, 9)
"""The line of Python for which the packages of that day have wheels."""
PACKAGES = ("numpy", "pandas", "scikit-learn", "pip")


def main(words: list[str]) -> None:
    """Make the channel, run the project from it, and once more without any network."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.conda_example", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="a git directory of mlflow/mlflow-example")
    requested = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="proj-conda-") as folder:
        workdir = Path(folder)
        python = next(one for one in discover(workdir / "interpreters.json") if one.line == LINE)
        day = subprocess.run(
            ["git", "--git-dir", requested.mirror, "log", "-1", "--format=%cI"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        channel = make_channel(workdir / "channel", *_packages(python, workdir / "venv", day))
        for more in ((), ("--offline",)):
            record = _run(requested.mirror, workdir, channel, more)
            environment = record["environment"]
            print(f"{' '.join(more) or 'first':9}  {record['status']}  {record['metrics']}")
            print(
                f"  {environment['manager']}, Python {environment['python']}, {len(environment['packages'])} packages"
            )
            print(f"  as of {environment['as_of']}, repairs: {environment['repairs']}")


def _packages(python: Interpreter, venv: Path, day: str) -> Iterator[Package]:
    """Yield the interpreter, and what the index had on a day for it, as packages of conda."""
    yield interpreter(python.version, Path(python.path).resolve())
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--python", python.path, venv], check=True)
    words = ["pip", "install", "--quiet", "--python", venv / "bin" / "python", "--exclude-newer", day, *PACKAGES]
    subprocess.run([uv, *words], check=True)
    for info in venv.glob("lib/python*/site-packages/*.dist-info"):
        yield _package(info, python)


def _package(info: Path, python: Interpreter) -> Package:
    metadata = HeaderParser().parsestr((info / "METADATA").read_text("utf-8"))
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist") or ()]
    here = {"python_version": ".".join(map(str, python.line)), "python_full_version": python.version, "extra": ""}
    depends = [_normal(one.name) for one in needed if one.marker is None or one.marker.evaluate(here)]
    paths = (line.partition(",")[0] for line in (info / "RECORD").read_text("utf-8").splitlines())
    line = f"lib/python{python.line[0]}.{python.line[1]}/site-packages"
    return Package(
        name=_normal(metadata["Name"]),
        version=metadata["Version"],
        depends=(f"python {python.line[0]}.{python.line[1]}.*", *dict.fromkeys(depends)),
        files={f"{line}/{path}": (info.parent / path).read_bytes() for path in paths if not path.startswith("..")},
        subdir=platform(),
        kind=".conda",
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(mirror: Path, workdir: Path, channel: Path, more: tuple[str, ...]) -> dict[str, object]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
    home = {"PROJ_HOME": str(workdir / "home"), "PYTHONPATH": str(ROOT), "CONDA_DEFAULT_CHANNELS": channel.as_uri()}
    words = ["run", str(mirror), "--env-manager", "conda", "--json", *more]
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli.main", *words],
        env={**kept, **home},
        cwd=workdir,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
