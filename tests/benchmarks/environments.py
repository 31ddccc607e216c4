"""Environments against the tool that installs them."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from uv import find_uv_bin

from runner.environments.kept import disk_use
from runner.settings import Home
from tests.benchmarks.runs import make_project
from tests.benchmarks.timing import Row, command, in_turns, proj, seconds_of

PACKAGES = "numpy==1.26.4\npandas==2.2.2\nscikit-learn==1.5.1\n"


def environment(room: Path) -> Iterator[Row]:
    """Measure the making of an environment, cold and warm, against ``uv venv`` with ``uv pip sync``."""
    root = make_project(room)
    lock = compile_lock(room)
    (root / "requirements.txt").write_text(lock.read_text())
    (root / "python_env.yaml").write_text(
        f"python: '{sys.version_info[0]}.{sys.version_info[1]}'\ndependencies: [-r requirements.txt]\n"
    )
    theirs, ours = peer(room, lock), command(proj("run", "."), root)
    shutil.rmtree(cache(room), ignore_errors=True)
    cold_peer = seconds_of(theirs)
    shutil.rmtree(cache(room), ignore_errors=True)
    cold = seconds_of(ours)
    yield Row("proj run with a new environment, cold cache", cold, "uv venv + pip sync", cold_peer)
    environments = Path(os.environ["PROJ_HOME"]) / "environments"

    def again() -> object:
        shutil.rmtree(environments, ignore_errors=True)
        return ours()

    took, limit = in_turns(again, theirs, rounds=5)
    yield Row("proj run with a new environment, warm cache", took, "uv venv + pip sync", limit)
    took, _ = in_turns(ours, theirs, rounds=5)
    yield Row("proj run with the environment there", took, "uv venv + pip sync", limit)


def cache(room: Path) -> Path:
    """Return a cache of uv that is this measurement's own."""
    os.environ["UV_CACHE_DIR"] = str(room / "cache")
    return room / "cache"


def compile_lock(room: Path) -> Path:
    """Resolve a few packages of the field to a hash-pinned lock."""
    (room / "packages.in").write_text(PACKAGES)
    lock = room / "lock.txt"
    words = [
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "packages.in",
        "-o",
        str(lock),
    ]
    command([find_uv_bin(), *words, "--python", sys.executable], room)()
    return lock


def peer(room: Path, lock: Path) -> Callable[[], object]:
    """Return what installs the lock without proj."""
    prefix = room / "peer"
    uv = find_uv_bin()
    make = command([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(prefix)], room)
    sync = command(
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(prefix / "bin/python"), str(lock)], room
    )

    def both() -> None:
        make()
        sync()

    return both


def disk(room: Path) -> Iterator[Row]:
    """Measure the disk and time of ten environments of one stack, each with one package of its own, against pip's."""
    cache(room)
    home = Home(Path(os.environ["PROJ_HOME"]))
    others = ("six", "tabulate", "tqdm", "idna", "certifi", "attrs", "toolz", "click", "packaging", "filelock")
    sizes: list[int] = []
    times: list[float] = []
    for number, other in enumerate(others):
        root = make_project(room / str(number))
        (root / "python_env.yaml").write_text(
            f"python: '{sys.version_info[0]}.{sys.version_info[1]}'\n"
            f"dependencies: [{', '.join([*PACKAGES.split(), other])}]\n"
        )
        times.append(seconds_of(command(proj("run", "."), root)))
        sizes.append(sum(disk_use(home.environments, room / "cache")))
    peers: list[float] = []
    for number, other in enumerate(others):
        prefix = room / "pip" / str(number)
        make = command([sys.executable, "-m", "venv", str(prefix)], room)
        words = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", *PACKAGES.split(), other]
        install = command([str(prefix / "bin/python"), "-m", "pip", *words], room)
        peers.append(seconds_of(make) + seconds_of(install))
    (theirs,) = disk_use(room / "pip")
    yield Row(
        "the first of ten environments of one stack, with its cache", sizes[0] / 1e6, "ten of pip", theirs / 1e6, "MB"
    )
    yield Row("all ten of them", sizes[-1] / 1e6, "ten of pip", theirs / 1e6, "MB")
    yield Row("the time of all ten", sum(times), "ten of pip", sum(peers))
