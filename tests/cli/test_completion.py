"""Completion in a real shell."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.cli.main import COMMANDS
from runner.settings import Home
from runner.store import experiments, registry, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.cli.test_start import SLOW
from tests.conftest import ROOT, RunProj, write_tree

pytestmark = pytest.mark.slow

BASH = shutil.which("bash")
ONE, TWO = "ab" * 16, "ac" * 16

PROJECT = """\
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      alphabet: {default: latin}
      model: {default: linear, choices: [linear, forest]}
      data: {type: path, default: MLproject}
    command: echo {alpha} {alphabet} {model} {data}
  validate:
    description: Look at the data.
    command: echo
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """Make a program named proj, as an installation does."""
    program = tmp_path / "bin" / "proj"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m runner.cli.main "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def filled(db: Database, tmp_path: Path) -> Path:
    """Fill the store, and make a project."""
    for run_id, name in ((ONE, "first"), (TWO, "name with spaces")):
        runs.create(db, NewRun(run_id=run_id, name=name))
    values.log_metrics(db, ONE, [Metric(key=key, value=1, timestamp=1) for key in ("loss", "val/loss")])
    experiments.create(db, "churn")
    registry.create(db, "churner")
    other = "entry_points:\n  main: {parameters: {beta: float}, command: echo}\n  train: {command: echo}\n"
    write_tree(tmp_path / "other", {"MLproject": other})
    return write_tree(tmp_path / "project", {"MLproject": PROJECT})


def variables(command: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{command.parent}:{os.environ['PATH']}", "PS1": "> "}


@pytest.mark.skipif(BASH is None, reason="there is no bash")
class TestBash:
    def complete(self, command: Path, folder: Path, *words: str) -> list[str]:
        script = (
            'eval "$(proj completion bash)"\n'
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))})\nCOMP_CWORD={len(words) - 1}\n"
            f"COMP_LINE={shlex.quote(' '.join(words))}\n"
            '_proj_completion proj\n[ ${#COMPREPLY[@]} = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            [str(BASH), "--norc", "-c", script],
            cwd=folder,
            env=variables(command),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["proj", ""], list(COMMANDS)),
            (["proj", "experi"], ["experiments"]),
            (["proj", "experiments", "re"], ["rename", "restore"]),
            (["proj", "list", "--exp"], ["--experiment"]),
            (["proj", "list", "--experiment", ""], ["Default", "churn"]),
            (["proj", "list", "--status", "FI"], ["finished"]),
            (["proj", "show", "a"], [TWO[:12], ONE[:12]]),
            (["proj", "show", "ab"], [ONE[:12]]),
            (["proj", "show", "fi"], ["first"]),
            (["proj", "show", "la"], ["latest"]),
            (["proj", "show", "name"], []),
            (["proj", "show", "'; DROP"], []),
            (["proj", "compare", "first", "ac"], [TWO[:12]]),
            (["proj", "metrics", "first", ""], ["loss", "val/loss"]),
            (["proj", "metrics", "ab", "val"], ["val/loss"]),
            (["proj", "models", "show", "ch"], ["churner"]),
            (["proj", "run", "-e", ""], ["main", "validate"]),
            (["proj", "run", "-e", "val"], ["validate"]),
            (["proj", "run", "-P", "al"], ["alpha=", "alphabet="]),
            (["proj", "run", "-P", "alpha=1", "-P", "al"], ["alphabet="]),
            (["proj", "run", "-e", "validate", "-P", ""], []),
            (["proj", "run", "../project", "-P", "mod"], ["model="]),
            (["proj", "run", "../other", "-P", ""], ["beta="]),
            (["proj", "run", "-e", "main", "../other", "-P", ""], ["beta="]),
            (["proj", "run", "-P", "beta=1", "../other", "-e", "tra"], ["train"]),
            (["proj", "run", "nowhere", "-P", ""], []),
            (["proj", "run", "https://git.example.org/x.git", "-e", ""], []),
        ],
        ids=" ".join,
    )
    def test_words(self, command: Path, filled: Path, words: list[str], found: list[str]) -> None:
        assert self.complete(command, filled, *words) == found

    def test_without_a_store_nothing_is_made(self, command: Path, tmp_path: Path, home: Home) -> None:
        assert self.complete(command, tmp_path, "proj", "show", "") == []
        assert not home.root.exists()

    def test_a_damaged_store_and_a_broken_manifest_say_nothing(self, command: Path, tmp_path: Path, home: Home) -> None:
        write_tree(home.root, {"proj.db": "no database"})
        write_tree(tmp_path, {"MLproject": "entry_points: ["})
        assert self.complete(command, tmp_path, "proj", "show", "a") == []
        assert self.complete(command, tmp_path, "proj", "run", "-P", "a") == []

    def test_at_a_terminal(self, command: Path, filled: Path) -> None:
        with bash_at_a_terminal(command, filled) as terminal:
            assert say(terminal, "proj run -P alphab\t", "alphabet=").rstrip("\a").endswith("alphabet=")
            say(terminal, "greek --dry-r\t", "--dry-run ")

    @pytest.mark.parametrize(
        ("typed", "wanted"),
        [
            ("proj run ../oldg", "../oldgold/"),
            ("proj get latest --to ../oldg", "../oldgold/"),
            ("proj import ../imp/ml", "../imp/mlruns/"),
            ("proj run . --params-file tr", "train\\ it.yaml "),
            ("proj run -P model=f", "model=forest "),
            ("proj run -P data=../oldg", "data=../oldgold/"),
            ("proj run --env-manager v", "virtualenv "),
            ("proj run --env-manager=v", "virtualenv "),
            ("proj checkout first ../oldg", "../oldgold/"),
        ],
    )
    def test_files_and_values(self, command: Path, filled: Path, typed: str, wanted: str) -> None:
        (filled.parent / "oldgold").mkdir()
        (filled.parent / "imp" / "mlruns").mkdir(parents=True)
        (filled / "train it.yaml").touch()
        with bash_at_a_terminal(command, filled) as terminal:
            say(terminal, f"{typed}\t", wanted)

    def test_choices_are_listed(self, command: Path, filled: Path) -> None:
        with bash_at_a_terminal(command, filled) as terminal:
            shown = say(terminal, "proj run -P model=\t\t", "linear")
            assert "forest" in shown
            assert "model=linear" not in shown


@contextmanager
def bash_at_a_terminal(command: Path, folder: Path) -> Iterator[int]:
    """Give a terminal with a bash that completes."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(str(BASH), ["bash", "--norc", "--noprofile", "-i"], {**variables(command), "TERM": "dumb"})
    try:
        say(terminal, 'eval "$(proj completion bash)"; echo rea""dy\n', "ready")
        yield terminal
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def say(terminal: int, text: str, wanted: str) -> str:
    """Type at a terminal and return what appears there, up to what is waited for."""
    os.write(terminal, text.encode())
    seen = ""
    deadline = time.monotonic() + 60
    while wanted not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode("utf-8", "replace")
    assert wanted in seen, seen
    return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", seen)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell: str, proj: RunProj, tmp_path: Path) -> None:
    script = proj("completion", shell).out
    assert "_PROJ_COMPLETE" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(script)
    subprocess.run([program, "-n", tmp_path / "script"], check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish(command: Path, filled: Path) -> None:
    script = 'proj completion fish | source; complete -C "proj show fi"; complete -C "proj run -P alphab"'
    done = subprocess.run(
        ["fish", "-c", script], cwd=filled, env=variables(command), capture_output=True, text=True, check=True
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["first", "alphabet="]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_knows_who_completes(command: Path, filled: Path) -> None:
    script = 'autoload -U compinit && compinit -u -D; eval "$(proj completion zsh)"; echo $_comps[proj]'
    done = subprocess.run(
        ["zsh", "-f", "-c", script], cwd=filled, env=variables(command), capture_output=True, text=True, check=True
    )
    assert done.stdout == "_proj_completion\n"


def test_completing_loads_little(filled: Path) -> None:
    code = (
        "import sys\nfrom runner.cli.main import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write('loaded: ' + ' '.join(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "_PROJ_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "COMP_WORDS": "proj log fi"},
        cwd=filled,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "plain,first\n"
    modules = set(found.stderr.rpartition("loaded: ")[2].split())
    assert not modules & SLOW
    assert "runner.store.search" not in modules
    first = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "COMP_WORDS": "proj l", "COMP_CWORD": "1"},
        cwd=filled,
        capture_output=True,
        text=True,
        check=False,
    )
    assert first.stdout.splitlines() == ["plain,list", "plain,log", "plain,link", "plain,lock"]
    assert "runner.cli.list" not in first.stderr
