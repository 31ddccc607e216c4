"""What proj adds to the bare command, and what its peers add."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.stores import fill_proj
from tests.benchmarks.timing import Row, command, in_turns, proj
from tests.conftest import git, write_tree

RUNS = 10_000
FORMS: tuple[list[str], ...] = ([], ["--csv"], ["--json"])
ID = 32
INPUT_SIZE = 300 << 20

BARE = "python -c pass"
PROJECT = {
    "MLproject": f"name: bare\npython_env: python_env.yaml\nentry_points:\n  main:\n    command: {BARE}\n",
    "python_env.yaml": "dependencies: []\n",
    ".gitignore": ".guild\n",
    "guild.yml": "main:\n  exec: python -c pass\n",
}


_LOGGING = """\
entry_points:
  main:
    command: "echo '{{\\"a\\": 1}}' > m.json"
"""


def make_project(workdir: Path) -> Path:
    """Make a small clean project whose command does nothing."""
    root = write_tree(workdir / "project", PROJECT)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "--quiet", "--message=first")
    return root


def start(workdir: Path) -> Iterator[Row]:
    """Measure the start of the command line."""
    took, bare = in_turns(command(proj("--help"), workdir), command([sys.executable, "-c", "pass"], workdir))
    yield Row("proj --help", took, "python -c pass", bare)


def reading(workdir: Path) -> Iterator[Row]:
    """Measure the commands that read a store of 10,000 runs."""
    fill_proj(workdir / "home", 0, RUNS)
    bare = command([sys.executable, "-c", "pass"], workdir)
    for words in (["list"], ["show", f"{RUNS - 1:032x}"], *(["list", "-n", str(RUNS), *form] for form in FORMS)):
        took, limit = in_turns(command(proj(*words), workdir), bare)
        reported = " ".join("RUN" if len(word) == ID else word for word in words)
        yield Row(f"proj {reported}, {RUNS} runs", took, "python -c pass", limit)


def run(workdir: Path) -> Iterator[Row]:
    """Measure a run with an environment that is there against its command alone."""
    root = make_project(workdir)
    bare = command(["bash", "-c", BARE], root)
    for manager in ("uv", "local"):
        words = proj("run", ".", "--env-manager", manager)
        took, limit = in_turns(command(words, root), bare)
        yield Row(f"proj run, cached environment ({manager})", took, "bare command", limit)


def inputs(workdir: Path) -> Iterator[Row]:
    """Measure a run with a large declared input that has not changed against the same run without one."""
    root = make_project(workdir)
    write_tree(root, {".gitignore": "data/\n", "data/train.bin": bytes(INPUT_SIZE)})
    manifest = PROJECT["MLproject"]
    write_tree(root, {"with/MLproject": f"{manifest}    inputs: [../data/train.bin]\n", "without/MLproject": manifest})
    for name in ("with", "without"):
        write_tree(root, {f"{name}/python_env.yaml": PROJECT["python_env.yaml"]})
    words = [command(proj("run", name, "--env-manager", "local"), root) for name in ("with", "without")]
    took, limit = in_turns(words[0], words[1])
    yield Row(f"proj run, an unchanged input of {INPUT_SIZE >> 20} MB", took, "the run without it", limit)


def reproduce(workdir: Path) -> Iterator[Row]:
    """Measure a reproduction, with its verdict, against the run that it repeats."""
    root = make_project(workdir)
    (root / "MLproject").write_text("name: bare\npython_env: python_env.yaml\nmetrics: [{path: m.json}]\n" + _LOGGING)
    again = command(proj("run", "."), root)
    again()
    took, limit = in_turns(command(proj("reproduce", "latest"), root), again)
    yield Row("proj reproduce latest", took, "proj run .", limit)


def peers(workdir: Path) -> Iterator[Row]:
    """Measure the peers that are installed in environments named by PROJ_BENCH_MLFLOW and PROJ_BENCH_GUILD."""
    root = make_project(workdir)
    bare = command(["bash", "-c", BARE], root)
    ours = command(proj("run", "."), root)
    calls = {
        "mlflow": ("run", ".", "--env-manager", "local"),
        "guild": ("run", "main", "--yes"),
    }
    for name, words in calls.items():
        program = os.environ.get(f"PROJ_BENCH_{name.upper()}") or shutil.which(name)
        if not program:
            print(f"peers        {name} is not here: name its program in PROJ_BENCH_{name.upper()}")
            continue
        theirs = command([program, *words], root, {"MLFLOW_TRACKING_URI": f"sqlite:///{workdir}/mlflow.db"})
        took, limit = in_turns(theirs, bare, rounds=3)
        yield Row(f"{name} {' '.join(words)}", took, "bare command", limit)
        took, limit = in_turns(ours, theirs, rounds=3)
        yield Row("proj run .", took, f"{name} run", limit)


TRAINING = """
import json, os, random, statistics

random.seed(1)
rows = []
for number in range(200):
    with open(os.path.join("parts", f"{number}.csv")) as file:
        rows += [float(line) for line in file]
weights = [0.0] * 8
for epoch in range({epochs}):
    for value in rows:
        error = value - sum(weights)
        weights = [one + 1e-6 * error for one in weights]
with open("result.json", "w") as file:
    json.dump({"weights": weights, "mean": statistics.fmean(rows)}, file)
"""
"""A training that reads 200 files and then computes; without packages, so that it runs anywhere."""
EPOCHS = 600


def trace(workdir: Path) -> Iterator[Row]:
    """Measure what the observation of inputs adds to a training of ten seconds, and to a command that does nothing."""
    parts = {f"parts/{number}.csv": "".join(f"{number}.{line}\n" for line in range(100)) for number in range(200)}
    script = TRAINING.replace("{epochs}", str(EPOCHS))
    project = {"MLproject": "entry_points:\n  main:\n    command: python train.py\n", "train.py": script}
    for name, files in (("training", {**project, **parts}), ("bare", PROJECT)):
        root = write_tree(workdir / name, files)
        git(root, "init", "--quiet", "--initial-branch=main")
        git(root, "add", "--all")
        git(root, "-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "--quiet", "--message=first")
        off = command(proj("run", ".", "--env-manager", "local", "--no-trace"), root)
        for words in ((), ("--trace",)):
            took, limit = in_turns(command(proj("run", ".", "--env-manager", "local", *words), root), off, rounds=5)
            yield Row(f"proj run {' '.join(words)}, {name}", took, "--no-trace", limit)
