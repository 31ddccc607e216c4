"""The documents say what is true: each command line is understood, each file exists, marked sessions run."""

import html
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runner.cli.main import cli
from tests.documents.pages import PAGES, ROOT, SHELL, Block, blocks, proj_commands, shell_lines

BLOCKS = [block for page in PAGES for block in blocks(page) if block.kind in SHELL]
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


@pytest.mark.slow
@pytest.mark.env
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_session_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    for name in ("example_projects", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name)
    script = "\n".join(
        "\n".join(shell_lines(block)) for block in blocks(page) if block.kind in SHELL and block.mark.startswith("run")
    )
    bin_folder = Path(sys.executable).parent
    variables = {**os.environ, "PATH": os.pathsep.join((str(bin_folder), os.environ["PATH"]))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def words_of(picture: str) -> list[str]:
    """Return the words of a picture of a terminal; ids, names of runs and numbers are different in each session."""
    text = html.unescape(" ".join(re.findall(r"<text [^>]*>([^<]*)</text>", picture)))
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
