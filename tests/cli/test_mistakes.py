"""What people type by mistake, and the whole text that they get: one file of ``tests/cli/mistakes`` for each situation.

After a change of texts, ``PROJ_RENEW_MISTAKES=1 pytest tests/cli/test_mistakes.py`` writes the present ones; read them.
"""

import os
import shlex
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from runner.base.tags import SOURCE_NAME_TAG
from runner.cli.main import run_command
from runner.model import Code, EnvironmentRecord, Parameter, ParameterRecord, RunDetails, RunStatus
from runner.settings import Home
from runner.store import experiments, runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.conftest import write_tree

FOLDER = Path(__file__).parent / "mistakes"
LEAST = 60
RENEW = bool(os.environ.get("PROJ_RENEW_MISTAKES"))  # read before a test clears the variables

MANIFEST = """\
name: churn
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5, min: 0, max: 1}
      epochs: {type: int, default: 3}
      kind: {type: string, default: linear, choices: [linear, tree]}
    command: python train.py --alpha {alpha} --epochs {epochs} --kind {kind}
  evaluate:
    parameters:
      model: path
    command: python evaluate.py {model}
  clean:
    inputs: [data/raw.csv]
    command: python clean.py
"""
NESTED = "entry_points:\n  main:\n    command: echo trained\n"


class Mistake(NamedTuple):
    """A command line with the text that it prints to stderr and its exit code."""

    line: str
    text: str
    exit_code: int

    def __str__(self) -> str:
        return f"$ {self.line}\n{self.text}[exit code {self.exit_code}]\n"


def read_lines(situation: str) -> list[str]:
    """Return the command lines of a situation."""
    text = (FOLDER / f"{situation}.txt").read_text(encoding="utf-8")
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def in_an_empty_folder(_folder: Path, _home: Home) -> None:
    """Nothing is there, and proj has recorded nothing."""


def in_a_project(folder: Path, _home: Home) -> None:
    """A project that was not run yet."""
    files = {"MLproject": MANIFEST, "train.py": "print(1)\n", "evaluate.py": "", "clean.py": "", "notes.txt": "x"}
    files |= {"broken/MLproject": "entry_points: [main\n", "typo/MLproject": "entry_points:\n  main:\n    comand: ls\n"}
    files |= {"params.yaml": "alpha: [1, 2\n", "many.yaml": "alhpa: 0.1\n"}
    files |= {"absent/MLproject": "python_env: env.yaml\nentry_points: {main: {command: ls}}\n"}
    files |= {"requirements.txt": "numpy\n", "full/file.txt": "x", "locked/requirements.txt": "numpy==1.26.4\n"}
    write_tree(folder, files)


def above_a_project(folder: Path, _home: Home) -> None:
    """The manifest is in a folder below."""
    write_tree(folder, {"training/MLproject": NESTED, "README.md": "# Churn\n"})


def with_runs(folder: Path, home: Home) -> None:
    """Three runs were recorded, one failed; two have the same name."""
    write_tree(folder, {"MLproject": MANIFEST, "train.py": "print(1)\n", "full/file.txt": "x"})
    details = RunDetails(
        project=str(folder),
        entry_point="main",
        command="python train.py",
        exit_code=0,
        code=Code(tree="1" * 40, swhid="swh:1:dir:1", commit="a" * 40),
        environment=EnvironmentRecord(manager="uv", python="3.11.7"),
        parameters=(ParameterRecord(name="alpha", value="0.5", type="float", source="default"),),
    )
    with closing(Database.open(home.database)) as database:
        experiments.create(database, "churn")
        for number, name in enumerate(("first", "second", "second")):
            run_id, start = str(number + 1) * 32, 1_700_000_000_000 + number * 60_000
            tags = {SOURCE_NAME_TAG: str(folder.resolve())}
            runs.create(database, NewRun(run_id=run_id, name=name, started_at=start, tags=tags, details=details))
            values.record_parameters(database, run_id, [Parameter(name="alpha", value="0.5", type="float")])
            values.log_metrics(database, run_id, [Metric(key="log_loss", value=0.7 - number / 10, timestamp=1)])
            write_artifact(home.artifacts(run_id), "model/weights.txt", [b"1"])
            status = RunStatus.FAILED if number == 1 else RunStatus.FINISHED
            runs.update(database, run_id, status=status, ended_at=start + 2000)


SITUATIONS: dict[str, Callable[[Path, Home], None]] = {
    one.__name__: one for one in (in_an_empty_folder, in_a_project, above_a_project, with_runs)
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_mistake_gets_this_text(
    situation: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    SITUATIONS[situation](folder, home)
    monkeypatch.chdir(folder)
    found = []
    for line in read_lines(situation):
        exit_code = run_command(shlex.split(line)[1:])
        text = capsys.readouterr().err.replace(str(folder), "FOLDER").replace(str(home.root), "HOME")
        found.append(Mistake(line, text, exit_code))
    transcript = "\n".join(map(str, found))
    if RENEW:
        (FOLDER / f"{situation}.txt").write_text(transcript, encoding="utf-8")
    assert transcript == (FOLDER / f"{situation}.txt").read_text(encoding="utf-8")


def test_there_are_many_mistakes() -> None:
    lines = [(situation, line) for situation in SITUATIONS for line in read_lines(situation)]
    assert len(set(lines)) == len(lines) >= LEAST
