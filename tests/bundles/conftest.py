"""A run of a small project, and its bundle."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import MakeRepository, RunProj

MANIFEST = """\
name: traveller
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      data: {type: path, default: data/numbers.txt}
    command: python train.py {alpha} {data}
"""
SCRIPT = """\
import os, pathlib, sys
total = sum(map(float, pathlib.Path(sys.argv[2]).read_text().split())) * float(sys.argv[1])
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f"score={total}\\nbad=nan\\nloss=2 step=1\\nloss=1 step=2\\n")
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/score.txt").write_text(str(total))
pathlib.Path("out/a\\nb").write_text("a strange name")
print("total", total)
"""


class Exported(NamedTuple):
    """A project, its run, and the bundle of the run."""

    root: Path
    run_id: str
    bundle: Path


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    """Return a repository whose data is ignored by git, and which has a change that was not committed."""
    root = make_repository({"MLproject": MANIFEST, "train.py": "print('committed')\n", ".gitignore": "data/\n"})
    (root / "train.py").write_text(SCRIPT)
    (root / "data").mkdir()
    (root / "data" / "numbers.txt").write_text("1 2 3\n")
    return root


@pytest.fixture
def exported_run(proj: RunProj, project: Path, tmp_path: Path) -> Exported:
    """Return a run and its bundle with inputs."""
    done = proj("run", ".", "--env-manager", "local", "--json", cwd=project)
    assert done.code == 0, done.err
    bundle = tmp_path / "run.zip"
    written = proj("export", "latest", "-o", str(bundle), "--include-inputs", "1M")
    assert written.code == 0, written.err
    return Exported(project, str(done.json["run_id"]), bundle)


@pytest.fixture
def exported(exported_run: Exported) -> Exported:
    """Return the run and its bundle; a file of tests may give another one."""
    return exported_run
