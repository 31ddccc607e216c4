"""Environments against the tool that installs them."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from uv import find_uv_bin

from runner.environments.cache.environments import disk_use
from runner.settings import Home
from tests.benchmarks.runs import make_project
from tests.benchmarks.timing import Row, command, in_turns, proj, seconds_of

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ROUNDS = 5
SIX = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
PACKAGES = "numpy==1.26.4\npandas==2.2.2\nscikit-learn==1.5.1\n"


def environment(workdir: Path) -> Iterator[Row]:
    """Measure the making of an environment, cold and warm, against ``uv venv`` with ``uv pip sync``."""
    root = make_project(workdir)
    lock = compile_lock(workdir)
    declare(root, lock.read_text())
    theirs, ours, pips = peer(workdir, lock), command(proj("run", "."), root), pip_peer(workdir, lock)
    peers = {"uv venv + pip sync": theirs, "virtualenv + pip install": pips}
    for name, work in peers.items():
        shutil.rmtree(cache(workdir), ignore_errors=True)
        limit = seconds_of(work)
        shutil.rmtree(cache(workdir), ignore_errors=True)
        shutil.rmtree(Path(os.environ["PROJ_HOME"]), ignore_errors=True)
        yield Row("proj run with a new environment, cold cache", seconds_of(ours), name, limit)
    yield from _warm(root, peers)
    yield from _after_another(workdir, root, theirs)


def _warm(root: Path, peers: Mapping[str, Callable[[], object]]) -> Iterator[Row]:
    """Measure what a new environment adds to a run, its proof included, when all its packages are cached."""
    home, ours = Path(os.environ["PROJ_HOME"]), command(proj("run", "."), root)
    blocks = re.split(r"\n(?=\S)", (root / "requirements.txt").read_text().strip())

    def added(gone: Sequence[str]) -> float:
        # The same packages in another order are another environment; one that goes away would change files of the rest.
        blocks.append(blocks.pop(0))
        declare(root, "\n".join(blocks) + "\n")
        for folder in gone:
            shutil.rmtree(home / folder, ignore_errors=True)
        return seconds_of(ours) - seconds_of(ours)

    rows: dict[str, tuple[str, ...]] = {
        "a new environment, warm cache": (),
        "the same, nothing of the cache proven before": ("cache/checksums",),
    }
    for what, gone in rows.items():
        for name, work in peers.items():
            work()
            rounds = ROUNDS if work is next(iter(peers.values())) else 1  # pip's take half a minute each
            pairs = [(added(gone), seconds_of(work)) for _ in range(rounds)]
            yield Row(what, median(one for one, _ in pairs), name, median(other for _, other in pairs))
    declare(root, "\n".join(blocks) + "\n")


def _after_another(workdir: Path, root: Path, theirs: Callable[[], object]) -> Iterator[Row]:
    """Measure the next run of a project after an environment was built that shares its files."""
    other = make_project(workdir / "other")
    lock = (root / "requirements.txt").read_text()
    declare(other, f"{lock}six==1.16.0 --hash=sha256:{SIX}\n")
    ours, build_other = command(proj("run", "."), root), command(proj("run", "."), other)
    environments = Path(os.environ["PROJ_HOME"]) / "environments"
    ours()
    own = set(environments.iterdir())
    times: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS):
        for folder in set(environments.iterdir()) - own:
            shutil.rmtree(folder)
        build_other()
        times.append((seconds_of(ours), seconds_of(ours), seconds_of(theirs)))
    after, usual, limit = (median(row[place] for row in times) for place in range(3))
    yield Row("next run after another environment was built", after, "uv venv + pip sync", limit)
    yield Row("the same", after, "any other run with the environment there", usual)


def declare(root: Path, lock: str) -> None:
    """Let a project have the environment of a lock."""
    (root / "requirements.txt").write_text(lock)
    (root / "python_env.yaml").write_text(f"python: '{PYTHON}'\ndependencies: [-r requirements.txt]\n")


def locking(workdir: Path) -> Iterator[Row]:
    """Measure ``proj lock`` against ``uv pip compile`` for all platforms."""
    root = make_project(workdir)
    (root / "requirements.txt").write_text(PACKAGES)
    (root / "python_env.yaml").write_text(f"python: '{PYTHON}'\ndependencies: [-r requirements.txt]\n")
    words = ["requirements.txt", "-o", "peer.lock", "--universal", "--generate-hashes", "--upgrade", "--quiet"]
    theirs = command([find_uv_bin(), "pip", "compile", *words], root)
    ours = command(proj("lock", "."), root)

    def again() -> object:
        (root / "python_env.lock").unlink(missing_ok=True)
        return ours()

    times = []
    for work in (theirs, again):
        shutil.rmtree(cache(workdir), ignore_errors=True)
        times.append(seconds_of(work))
    yield Row("proj lock, cold cache", times[1], "uv pip compile", times[0])
    took, limit = in_turns(again, theirs, rounds=5)
    yield Row("proj lock, warm cache", took, "uv pip compile", limit)


def cache(workdir: Path) -> Path:
    """Return a cache, for uv and for pip, that is this measurement's own."""
    os.environ["UV_CACHE_DIR"] = str(workdir / "cache/uv")
    os.environ["PIP_CACHE_DIR"] = str(workdir / "cache/pip")
    return workdir / "cache"


def compile_lock(workdir: Path) -> Path:
    """Resolve a few packages of the field to a hash-pinned lock."""
    (workdir / "packages.in").write_text(PACKAGES)
    lock = workdir / "lock.txt"
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
    command([find_uv_bin(), *words, "--python", sys.executable], workdir)()
    return lock


def peer(workdir: Path, lock: Path) -> Callable[[], object]:
    """Return what installs the lock without proj, from a cache of its own as it has by default."""
    prefix = workdir / "peer"
    uv, own = find_uv_bin(), {"UV_CACHE_DIR": str(workdir / "cache/peer")}
    make = command([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(prefix)], workdir, own)
    words = ["pip", "sync", "--quiet", "--require-hashes", "--python", str(prefix / "bin/python"), str(lock)]
    sync = command([uv, *words], workdir, own)

    def both() -> None:
        make()
        sync()

    return both


def pip_peer(workdir: Path, lock: Path) -> Callable[[], object]:
    """Return what installs the lock with virtualenv and pip."""
    prefix = workdir / "pip-peer"
    make = command([sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(prefix)], workdir)
    words = ["install", "--quiet", "--require-hashes", "--no-deps", "--disable-pip-version-check", "-r", str(lock)]
    install = command([str(prefix / "bin/python"), "-m", "pip", *words], workdir)

    def both() -> None:
        make()
        install()

    return both


def disk(workdir: Path) -> Iterator[Row]:
    """Measure the disk and time of ten environments of one stack, each with one package of its own, against pip's."""
    cache(workdir)
    home = Home(Path(os.environ["PROJ_HOME"]))
    others = ("six", "tabulate", "tqdm", "idna", "certifi", "attrs", "toolz", "click", "packaging", "filelock")
    sizes: list[int] = []
    times: list[float] = []
    for number, other in enumerate(others):
        root = make_project(workdir / str(number))
        (root / "python_env.yaml").write_text(
            f"python: '{PYTHON}'\ndependencies: [{', '.join([*PACKAGES.split(), other])}]\n"
        )
        times.append(seconds_of(command(proj("run", "."), root)))
        sizes.append(sum(disk_use(home.environments, workdir / "cache/uv")))
    peers: list[float] = []
    for number, other in enumerate(others):
        prefix = workdir / "pip" / str(number)
        make = command([sys.executable, "-m", "venv", str(prefix)], workdir)
        words = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", *PACKAGES.split(), other]
        install = command([str(prefix / "bin/python"), "-m", "pip", *words], workdir)
        peers.append(seconds_of(make) + seconds_of(install))
    (theirs,) = disk_use(workdir / "pip")
    yield Row(
        "the first of ten environments of one stack, with its cache", sizes[0] / 1e6, "ten of pip", theirs / 1e6, "MB"
    )
    yield Row("all ten of them", sizes[-1] / 1e6, "ten of pip", theirs / 1e6, "MB")
    yield Row("the time of all ten", sum(times), "ten of pip", sum(peers))
