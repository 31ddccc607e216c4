"""The documents say what is true: each command line is understood, each file exists, marked sessions run."""

import html
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from runner.cli.main import cli
from tests.conftest import commit_all, git, write_tree
from tests.documents.pages import PAGES, ROOT, SHELL, Block, blocks, proj_commands, shell_lines
from tests.documents.setups import NOT_RUN, SETUPS, in_background

BLOCKS = [block for page in PAGES for block in blocks(page) if block.kind in SHELL]
PROGRAMS = sorted({page for page in PAGES for block in blocks(page) if block.mark == "run python"})
SESSIONS = sorted({block.page for block in BLOCKS if block.mark.split()[:1] == ["run"]})


def where(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def problem_of(words: list[str]) -> str | None:
    """Return what the command line says against a call, apart from files that a reader would have."""
    try:
        parse(words)
    except click.exceptions.Exit:  # --help and --version end the parsing
        return None
    except click.ClickException as error:
        message = error.format_message()
        return None if isinstance(error, click.BadParameter) and "does not exist" in message else message
    return None


def parse(words: list[str]) -> None:
    """Parse a call of ``proj`` as the command line does, without calling the command."""
    context: click.Context = cli.make_context("proj", list(words), resilient_parsing=False)
    command: click.Command = cli
    while isinstance(command, click.Group) and context._protected_args:
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("block", BLOCKS, ids=where)
def test_each_command_line_is_understood(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in shell_lines(block):
        for words in proj_commands(line):
            problem = problem_of(words)
            assert problem is None, f"{where(block)}: {line}\n{problem}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


MANIFEST = """\
name: churn
python_env: python_env.yaml
experiment: churn
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      l1_ratio: {type: float, default: 0.1}
    outputs: [model]
    command: python train.py --alpha {alpha} --l1-ratio {l1_ratio}
  validate:
    command: python train.py --alpha 1
"""
SCRIPT = """\
import argparse, os, pathlib, tqdm
parser = argparse.ArgumentParser()
for name in ("--alpha", "--l1-ratio", "--epochs"):
    parser.add_argument(name, type=float, default=0)
alpha = parser.parse_args().alpha
pathlib.Path("model").mkdir()
pathlib.Path("model/weights.txt").write_text(str(alpha))
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f'rmse={alpha}\\n{{"name": "loss", "value": {alpha}, "step": 12}}\\n')
"""
PROJECT = {
    "MLproject": MANIFEST,
    "train.py": SCRIPT,
    "python_env.yaml": "python: '>=3.10'\ndependencies: ['tqdm>=4']\n",
    "params.yaml": "l1_ratio: 0.4\n",
}
OLDEST = "$(proj list --json -n 1000 | python -c 'import json, sys; print(json.load(sys.stdin)[-1][\"run_id\"])')"
"""What a session in the examples has in place of the id ``7f3a``."""


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home for all sessions, so that each environment is built once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def execute(shared_home: Path) -> Callable[[str, Path], str]:
    """Return a function that executes a script as a user's shell does, and returns its output."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

    def run(script: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            check=False,
            cwd=folder,
            env={**os.environ, "PATH": path, "PROJ_HOME": str(shared_home)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{script}\n\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


def prepare(folder: Path, *, own_project: bool, execute: Callable[[str, Path], str]) -> dict[str, str]:
    """Make what a session starts with, and return real ids for those in the documents."""
    if own_project:
        write_tree(folder, PROJECT)
    else:
        for name in ("example_projects", "templates"):
            shutil.copytree(ROOT / name, folder / name)
    commit_all(folder)
    if not own_project:
        return {"7f3a": OLDEST}
    git(folder, "tag", "v1.2")
    commands = {"7f3a": "proj run . --json", "91bc": "proj run . -P alpha=0.1 --json"}
    return {name: json.loads(execute(command, folder))["run_id"][:8] for name, command in commands.items()}


@pytest.mark.slow
@pytest.mark.env
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_session_of_a_page_runs(page: Path, tmp_path: Path, execute: Callable[[str, Path], str]) -> None:
    session = [block for block in blocks(page) if block.kind in SHELL and block.mark.split()[:1] == ["run"]]
    folder = tmp_path / "folder"
    folder.mkdir()
    ids = prepare(folder, own_project=session[0].mark == "run project", execute=execute)
    setup = SETUPS.get(page.stem)
    replacements = setup(folder) if setup else {}
    script = "\n".join([replacements.get("", ""), *("\n".join(shell_lines(block)) for block in session)])
    script = script.replace("~/", f"{tmp_path}/")  # HOME itself stays: package tools have their settings there
    for text, real in replacements.items():
        script = script.replace(text, real) if text else script
    for name, run_id in ids.items():
        script = re.sub(rf"\b{name}\b", lambda _, run_id=run_id: run_id, script)
    execute(in_background(script) if "proj server" in script else script, folder)


def test_each_guide_has_a_session_or_a_reason() -> None:
    guides = {page for page in PAGES if page.parent.name == "how-to"}
    assert {page.stem for page in guides - {*SESSIONS, *PROGRAMS}} == set(NOT_RUN)
    assert set(SETUPS) <= {page.stem for page in SESSIONS}


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_program_of_a_page_runs(page: Path, tmp_path: Path, execute: Callable[[str, Path], str]) -> None:
    """The blocks of Python that are marked are one program, which starts in a project of its own."""
    folder = write_tree(tmp_path / "folder", {**PROJECT, "train.py": SCRIPT.replace(", tqdm", "")})
    commit_all(folder)
    program = "\n".join(block.text for block in blocks(page) if block.mark == "run python")
    (tmp_path / "program.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}")
    execute(f"python {tmp_path / 'program.py'}", folder)
    recorded = json.loads(execute("proj list --json", folder))
    assert recorded
    assert {one["status"] for one in recorded} == {"FINISHED"}


def words_of(picture: str) -> list[str]:
    """Return the words of a picture of a terminal; ids, names of runs and numbers are different in each session."""
    text = html.unescape(" ".join(re.findall(r"<text [^>]*>([^<]*)</text>", picture)))
    text = re.sub(r", of which the command [\d.]+ s", "", text)  # only where it differs from the whole
    text = re.sub(r"\b[0-9a-f]{8,40}\b", "ID", text)
    text = re.sub(r"\b[a-z]+-[a-z]+-\d+\b", "NAME", text)
    return re.sub(r"\d+(?:\.\d+)*", "N", text.replace("─", " ")).split()


@pytest.mark.slow
def test_the_picture_of_the_readme_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_terminal_picture.py"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    picture = script["PICTURE"].read_text(encoding="utf-8")
    assert "FINISHED" in words_of(picture)
    assert words_of(script["make_picture"]()) == words_of(picture), "run: python docs/make_terminal_picture.py"


def test_each_word_of_the_glossary_is_used() -> None:
    glossary = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    found = [cells[1].strip() for line in glossary.splitlines() if len(cells := line.split("|")) > 3]
    files = [*(ROOT / "runner").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    texts = [path.read_text(encoding="utf-8").lower() for path in files]
    unused = [name for name in found[2:] if not any(name.lower() in text for text in texts)]
    assert len(found) > 10
    assert unused == []
